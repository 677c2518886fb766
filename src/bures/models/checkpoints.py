"""Reading a checkpoint with transformers: tokenizer and network, merged adapters, and what goes wrong in one line."""

from __future__ import annotations

import tempfile
import warnings
import weakref
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from bures.errors import ModelError
from bures.models.offloading import offloaded
from bures.models.room import is_out_of_memory
from bures.models.wrappers import text_model_class

if TYPE_CHECKING:
    from collections.abc import Generator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def from_pretrained(
    source: str, arguments: Mapping[str, Any], name: str, dtype: torch.dtype | Literal["auto"], place: str
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and network of a checkpoint.

    Args:
        source: hub id or folder.
        arguments: that point inside it (see `bures.models.sources.resolve`).
        name: what the user asked for.
        dtype: to load in; `auto` is the checkpoint's own.
        place: device, or `auto`: over all devices, and what does not fit stays in memory or on disk.

    Raises:
        ModelError: it cannot be read.
    """
    import transformers

    library = cast("Any", transformers)  # its loaders carry no useful types
    loading: dict[str, Any] = {"dtype": dtype, "device_map": place}
    if "gguf_file" in arguments:
        loading["quantization_config"] = library.GgufConfig(dequantize=True)
    else:
        loading["use_safetensors"] = True  # never a pickle
    with explained(name, is_local=Path(source).is_dir()):
        tokenizer = library.AutoTokenizer.from_pretrained(source, **arguments)
        kind = library.AutoModelForCausalLM
        if "gguf_file" not in arguments:
            kind = text_model_class(library.AutoConfig.from_pretrained(source, **arguments), name)
        return tokenizer, _placed(kind, source, {**arguments, **loading})


def _placed(kind: Any, source: str, loading: Mapping[str, Any]) -> PreTrainedModel:
    """The network; layers that go to disk are read from the checkpoint, or from copies where they differ there."""
    try:
        return kind.from_pretrained(source, **loading)
    except ValueError as error:
        if "offload_folder" not in str(error):
            raise
    folder = tempfile.TemporaryDirectory(prefix="bures-offload-", ignore_cleanup_errors=True)
    hf = kind.from_pretrained(source, **loading, offload_folder=folder.name)
    weakref.finalize(hf, folder.cleanup)
    return hf


def require_adapter(adapter: Path) -> None:
    """Refuses a folder without an adapter in it."""
    if not (adapter / "adapter_config.json").is_file() or not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(f"no adapter in {adapter}; expected adapter_config.json and adapter_model.safetensors")


def merge(hf: PreTrainedModel, adapter: Path, name: str) -> PreTrainedModel:
    """The network with an adapter merged into its weights, in memory.

    Raises:
        ModelError: it does not fit the network, or some layers are not in memory.
    """
    import peft

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
        if is_local:
            hint = "check that the files are complete and of a decoder that transformers knows"
        else:
            hint = "check the id (owner/name), your network and your access, or give a local folder"
        raise ModelError(f"cannot load {name}: {kind}: {reason}; {hint}") from error
