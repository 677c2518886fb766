"""Reading a checkpoint with transformers: tokenizer and network, merged adapters, and what goes wrong in one line."""

from __future__ import annotations

import json
import tempfile
import warnings
import weakref
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from bures import durable
from bures.errors import ModelError
from bures.models.memory import Shape, on_meta, shape_of
from bures.models.offloading import offloaded
from bures.models.quantization import (
    Quantization,
    is_packed,
    packing_on_load,
    require_known,
    stored_packing,
    unpacking,
)
from bures.models.room import is_out_of_memory
from bures.models.wrappers import text_model_class

if TYPE_CHECKING:
    from collections.abc import Generator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def from_pretrained(
    source: str,
    arguments: Mapping[str, Any],
    name: str,
    dtype: torch.dtype | Literal["auto"],
    place: str,
    quantization: Quantization | None = None,
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel, str | None]:
    """Tokenizer and network of a checkpoint, and what the results have to say of its weights.

    Args:
        source: hub id or folder.
        arguments: that point inside it (see `bures.models.sources.resolve`).
        name: what the user asked for.
        dtype: to load in; `auto` is the checkpoint's own.
        place: device, or `auto`: over all devices, and what does not fit stays in memory or on disk.
        quantization: how its linear layers are packed on the way.

    Raises:
        ModelError: it cannot be read, or not all of it is there.
    """
    import transformers

    library = cast("Any", transformers)  # its loaders carry no useful types
    loading: dict[str, Any] = {"dtype": dtype, "device_map": place}
    if quantization is not None:
        loading["quantization_config"] = packing_on_load(quantization, dtype)
    if "gguf_file" in arguments:
        loading["quantization_config"] = library.GgufConfig(dequantize=True)
    else:
        loading["use_safetensors"] = True  # never a pickle
    with explained(name, is_local=Path(source).is_dir()):
        tokenizer = library.AutoTokenizer.from_pretrained(source, **arguments)
        config, kind = _planned(source, arguments, name)
        method = None if "gguf_file" in arguments else stored_packing(config)
        if method is not None:
            require_known(method, config, name)
            if quantization is not None:
                raise ModelError(f"{name} is packed as {method} already; leave --quantization out")
        hf = _placed(kind, source, {**arguments, **loading})
    return tokenizer, hf, unpacking(hf, method)


def _planned(source: str, arguments: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    """The configuration of a checkpoint, and the automatic class that reads it."""
    import transformers

    library = cast("Any", transformers)
    config = library.AutoConfig.from_pretrained(source, **arguments)
    return config, library.AutoModelForCausalLM if "gguf_file" in arguments else text_model_class(config, name)


def shape_before_loading(
    source: str,
    arguments: Mapping[str, Any],
    name: str,
    dtype: torch.dtype | Literal["auto"],
    quantization: Quantization | None = None,
) -> Shape:
    """The shape that a model will have once it is loaded; see `from_pretrained`."""
    config, kind = _planned(source, arguments, name)
    files, is_gguf = sorted(Path(source).glob("*.safetensors")), "gguf_file" in arguments
    stored = _stored(files[0]) if files and not is_gguf else None
    loaded_as = dtype if isinstance(dtype, torch.dtype) else config.dtype or stored or torch.float32
    trusted = {"trust_remote_code": arguments.get("trust_remote_code", False)}
    method = stored_packing(config)
    if method is not None:
        del config.quantization_config
    shape = shape_of(
        config,
        on_meta(kind, config, **trusted),
        dtype=loaded_as,
        quantization=quantization,
        stored=None if method or quantization else stored,
        is_gguf=is_gguf,
    )
    if not files or method is None or (method in ("fp8", "mxfp4") and not torch.cuda.is_available()):
        return shape
    return replace(shape, weights=sum(file.stat().st_size for file in files))


def _stored(file: Path) -> torch.dtype | None:
    """The number format of most values in a safetensors file, from its header."""
    with file.open("rb") as opened:
        header: dict[str, Any] = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
    largest = max(tensors, key=lambda tensor: tensor["data_offsets"][1] - tensor["data_offsets"][0])
    formats = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    return formats.get(largest["dtype"])


def _placed(kind: Any, source: str, loading: Mapping[str, Any]) -> PreTrainedModel:
    """The network; layers that go to disk are read from the checkpoint, or from copies where they differ there."""
    try:
        return _complete(*kind.from_pretrained(source, **loading, output_loading_info=True))
    except ValueError as error:
        if "offload_folder" not in str(error):
            raise
    folder = tempfile.TemporaryDirectory(prefix="bures-offload-", ignore_cleanup_errors=True)
    hf = _complete(*kind.from_pretrained(source, **loading, output_loading_info=True, offload_folder=folder.name))
    weakref.finalize(hf, folder.cleanup)
    return hf


def _complete(hf: PreTrainedModel, info: Mapping[str, Any]) -> PreTrainedModel:
    """The network, if every weight of it was in the files; transformers makes up what is missing at random."""
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"the files lack {len(missing)} of the weights that {type(hf).__name__} has ({missing[0]}, ...), and "
            "figures of made-up weights say nothing; check that the files are complete and of this architecture"
        )
    return hf


HARDENED = "organism-hardened"
"""The name under which the packaged hardening adapter of the organism is given as an adapter."""


def organism_adapter() -> Path:
    """Folder of the refusal adapter that ships with the package."""
    return _packaged("organism")


def _packaged(name: str) -> Path:
    return Path(str(resources.files("bures") / "data" / name))


def adapter_folder(adapter: str | Path) -> Path:
    """Folder of an adapter that was given by its path, or as `organism-hardened`.

    Raises:
        ModelError: there is no adapter in it.
    """
    folder = _packaged(HARDENED) if str(adapter) == HARDENED else Path(adapter)
    _require_adapter(folder)
    return folder


def _require_adapter(adapter: Path) -> None:
    if not (adapter / "adapter_config.json").is_file() or not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(f"no adapter in {adapter}; expected adapter_config.json and adapter_model.safetensors")


def trained_on(adapter: Path) -> str | None:
    """What an adapter calls the model that it was trained on; None where it does not say."""
    try:
        return durable.read_object(adapter / "adapter_config.json").get("base_model_name_or_path")
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read adapter_config.json in {adapter}; check that the file is complete") from error


def merge(hf: PreTrainedModel, adapter: Path, name: str) -> PreTrainedModel:
    """The network with an adapter merged into its weights, in memory.

    Raises:
        ModelError: it does not fit the network, or some layers are not in memory.
    """
    import peft

    if is_packed(hf):
        raise ModelError(
            f"the adapter {adapter.name} is merged into whole weights, and those of {name} are packed; merge it into "
            "the unpacked model, save that, and load it with --quantization"
        )
    if offloaded(hf):  # peft would write what it merged beside the checkpoint
        raise ModelError(
            f"the adapter {adapter.name} cannot be merged into {name}, of which some layers are offloaded: they do not "
            "fit the devices; give more memory, or --device cpu"
        )
    with explained(f"{name} with the adapter {adapter.name}", is_local=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for an attribute that moved
        return cast("Any", peft).PeftModel.from_pretrained(hf, str(adapter)).merge_and_unload()


@contextmanager
def explained(name: str, *, is_local: bool) -> Generator[None]:
    """Turns whatever the loaders raise into one line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # loaders raise anything from OSError to struct.error on a damaged file
        if is_out_of_memory(error):
            raise ModelError(
                f"memory ran out while {name} was loaded; --device auto puts what does not fit into memory or on disk, "
                "--dtype bfloat16 halves what is float32"
            ) from error
        reason = " ".join(str(error).split())[:200]
        kind = type(error).__name__
        if isinstance(error, ImportError):
            raise ModelError(
                f"{name} needs what is not installed here: {reason}; install what is named, or take another checkpoint"
            ) from error
        if is_local:
            hint = "check that the files are complete and of a decoder that transformers knows"
        else:
            hint = "check the id (owner/name), your network and your access, or give a local folder"
        raise ModelError(f"cannot load {name}: {kind}: {reason}; {hint}") from error
