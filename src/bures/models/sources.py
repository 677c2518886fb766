"""Where a model comes from, and the type that it is loaded in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import torch

from bures.data.home import require_hub_cache
from bures.errors import ModelError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def resolve(path: Path, spec: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """What to hand to `from_pretrained`: the source and the arguments that point inside it.

    Raises:
        ModelError: there is nothing of that name, or no weights in it, or a revision is asked of what has none.
    """
    try:
        there = path.exists()
    except OSError as error:
        raise ModelError(f"no such file or folder: {spec[:80]} ({error.strerror}); give a path or a hub id") from error
    if revision is not None and there:
        raise ModelError(f"{spec} is on this disk and has no revision {revision!r}; leave --revision out")
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ModelError(f"{spec} is a file but not .gguf; give a model folder, a hub id or a .gguf file")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        ggufs = sorted(path.glob("*.gguf"))
        if list(path.glob("*.safetensors")):
            return str(path), {}
        if len(ggufs) == 1:
            return str(path), {"gguf_file": ggufs[0].name}
        found = f"{len(ggufs)} .gguf files" if ggufs else "no weights"
        raise ModelError(
            f"folder {spec} has {found}; expected *.safetensors or exactly one .gguf file (name it directly)"
        )
    if path.suffix.lower() == ".gguf" or path.is_absolute() or spec.startswith((".", "~")) or spec.count("/") > 1:
        raise ModelError(f"no such file or folder: {spec}; give an existing path, or a hub id of the form owner/name")
    require_hub_cache(f"the hub model {spec}")
    return spec, {} if revision is None else {"revision": revision}


@cache
def require_on_hub(spec: str, revision: str | None) -> None:
    """Brings the configuration of a hub model; does nothing for a folder.

    Raises:
        ModelError: why that is not possible, in one line.
    """
    if Path(spec).is_dir():
        return
    from huggingface_hub import errors, hf_hub_download

    instead = "or give a local folder"
    try:
        hf_hub_download(spec, "config.json", revision=revision)
        problem = ""
    except errors.HFValidationError:
        problem = f"{spec[:80]!r} is no hub id; expected owner/name, {instead}"
    except errors.GatedRepoError:
        problem = f"{spec} is gated: ask for access on its page and log in (`hf auth login`), {instead}"
    except errors.RepositoryNotFoundError:
        problem = f"the hub has no model {spec}, or a private one; correct the id (owner/name), log in, {instead}"
    except errors.RevisionNotFoundError:
        problem = f"{spec} has no revision {revision!r} on the hub; give a branch, tag or commit of it"
    except errors.LocalEntryNotFoundError:
        problem = f"{spec} is not cached, and the hub cannot be reached; check the id and the network, {instead}"
    except errors.EntryNotFoundError:
        problem = f"{spec} has no config.json on the hub: no transformers model; choose another, {instead}"
    except (OSError, errors.HfHubHTTPError) as error:
        problem = f"cannot look for {spec} on the hub ({type(error).__name__}); check the network, {instead}"
    if problem:  # outside the handlers: the library's own errors are screens long
        raise ModelError(problem)


def place_of(device: str | None) -> str:
    """The device that a model goes to: the one asked for, or CUDA where there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def torch_dtype(dtype: Dtype, is_gguf: bool, place: str) -> torch.dtype | Literal["auto"]:
    """The type to load in; `auto` is the checkpoint's own."""
    if dtype != "auto":
        return cast("torch.dtype", getattr(torch, dtype))
    if not is_gguf:
        return "auto"
    if place.startswith("cuda"):
        return torch.bfloat16
    has_bfloat16 = torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage] - torch has no public one
    return torch.bfloat16 if has_bfloat16 else torch.float32
