"""How a map lies on disk: one safetensors file that is everything, and a `.json` beside it for people.

The safetensors `__metadata__` holds the format and its version, the class of the map, the method that fitted it and the
fit's options and diagnostics as JSON. Each of the two files is written whole (`bures.durable`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor

from bures import durable
from bures.errors import ConfigError, RunError

FORMAT = "bures-map"
FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Contents:
    """What a map file holds: the class and kind of the map, its tensors, and its JSON metadata."""

    class_name: str
    kind: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]


def write_contents(path: str | os.PathLike[str], contents: Contents, *, dim: int, rank: int | None) -> None:
    """Write the safetensors file and the readable `.json`; `dim` and `rank` are only for the reader.

    Raises:
        ConfigError: the name does not end in .safetensors.
        RunError: the files cannot be written.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise ConfigError(f"A map is saved as .safetensors, got {target.name}; use {target.name}.safetensors.")
    # clones, because safetensors refuses tensors that share memory, as the two bases of a map do
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in contents.tensors.items()
    }
    metadata = dict(contents.metadata)
    header = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "class": contents.class_name,
        "kind": contents.kind,
        "metadata": json.dumps(metadata, allow_nan=False),
    }
    readable: dict[str, Any] = {
        **header,
        "format_version": FORMAT_VERSION,
        "dim": dim,
        "rank": rank,
        "dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch."),
        "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "metadata": metadata,
    }
    _write(target, _in_order(to_bytes(tensors, metadata=header)))
    _write(target.with_suffix(".json"), (json.dumps(readable, indent=2) + "\n").encode())


def read_contents(path: str | os.PathLike[str]) -> Contents:
    """Read a file written by `write_contents`, bit for bit, onto the CPU.

    Raises:
        RunError: there is no such file, it is damaged, it is not a map, it has another format version, or a tensor is
            not finite.
    """
    name = Path(path)
    if not name.is_file():
        raise RunError(f"There is no map file {name}; a .safetensors file written by `save` was expected.")
    try:
        header, tensors = _read_safetensors(name)
    except (SafetensorError, OSError) as error:
        raise RunError(f"The file {name} cannot be read as safetensors ({error}); save the map again.") from error
    if header.get("format") != FORMAT:
        raise RunError(f'The file {name} is not a map (no "format": "{FORMAT}" in its metadata); use one from `save`.')
    if header.get("format_version") != str(FORMAT_VERSION):
        raise RunError(
            f"The map {name} has format version {header.get('format_version')}, but this version of bures reads "
            f"{FORMAT_VERSION}; fit and save it again."
        )
    try:
        metadata: Any = json.loads(header["metadata"])
        class_name, kind = header["class"], header["kind"]
    except (KeyError, ValueError, RecursionError) as error:
        raise damaged(name, error) from error
    if not (kind and isinstance(metadata, dict)):
        raise damaged(name, "no kind, or metadata that are not a JSON object")
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise damaged(name, f"{key} has NaN or infinite entries")
    return Contents(class_name, kind, tensors, cast(dict[str, Any], metadata))


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    opened = cast(Any, safetensors).safe_open(path, framework="pt", device="cpu")  # safetensors ships no types for it
    with opened as file:
        return dict(file.metadata() or {}), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def damaged(path: str | os.PathLike[str], reason: object) -> RunError:
    """The error for a file that is a map, but a broken one."""
    return RunError(f"The map {os.fspath(path)} is damaged ({reason}); fit and save it again.")


def _in_order(content: bytes) -> bytes:
    """The same safetensors file with its header's keys in order, which the library leaves to a hash map: the same map
    is the same bytes on every run.

    Format: huggingface/safetensors, README: 8 bytes for the header's length, the header as JSON, which may end with
    spaces, the data.
    """
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:begin]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the data stay aligned
    return len(header).to_bytes(8, "little") + header + content[begin:]


def _write(path: Path, content: bytes) -> None:
    try:
        durable.write(path, content)
    except OSError as error:
        raise RunError(
            f"Cannot write {path} ({error.strerror}); check that the folder exists and is writable."
        ) from error
