"""Weights that are packed into few bits: on loading (bitsandbytes), or in the checkpoint already.

Passes of such a model are its own: its linear layers unpack what they multiply with. The residual stream between blocks
is in an ordinary number format, and maps are applied to it in float32 as to any other.
"""

from __future__ import annotations

import copy
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from torch import Tensor

from bures.errors import ModelError, needs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Quantization = Literal["bnb-4bit", "bnb-8bit"]


def packing_on_load(how: Quantization, dtype: torch.dtype | Literal["auto"]) -> Any:
    """The configuration with which transformers packs a checkpoint's linear layers while it loads them.

    Args:
        how: into how many bits.
        dtype: what is multiplied in; `auto`: bfloat16.

    Raises:
        ConfigError: bitsandbytes is not installed.
        ModelError: unknown.
    """
    if how not in get_args(Quantization):
        raise ModelError(f"unknown quantization {how!r}; expected one of {', '.join(get_args(Quantization))}")
    with needs("quantization", f"--quantization {how}"):
        import_module("bitsandbytes")
    import transformers

    make = cast("Any", transformers).BitsAndBytesConfig
    if how == "bnb-8bit":
        return make(load_in_8bit=True)
    computed = torch.bfloat16 if dtype == "auto" else dtype
    return make(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computed)


def gguf_packed_again(how: Quantization, name: str) -> ModelError:
    """The error for a GGUF file that is to be packed."""
    return ModelError(
        f"--quantization {how} packs safetensors checkpoints, and {name} is a GGUF file, which is unpacked on loading; "
        "leave the option out, or give the checkpoint that the file was made of"
    )


def stored_packing(config: Any) -> str | None:
    """How a checkpoint's weights are packed in its files; None: they are not."""
    found: Any = getattr(config, "quantization_config", None)
    if found is None:
        return None
    method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
    return str(getattr(method, "value", method) or "bitsandbytes")


def require_known(method: str, config: Any, name: str) -> None:
    """Refuses a packing that transformers does not know: it would load such weights as if they were not packed.

    Raises:
        ModelError: it is not known.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoHfQuantizer

    if method in AUTO_QUANTIZATION_CONFIG_MAPPING or AutoHfQuantizer.supports_quant_method(config.quantization_config):
        return
    raise ModelError(
        f"the weights of {name} are packed as {method}, which this transformers does not unpack; take a checkpoint "
        f"that is not quantised, or packed as one of {', '.join(sorted(AUTO_QUANTIZATION_CONFIG_MAPPING))}"
    )


def is_packed(hf: PreTrainedModel) -> bool:
    """Whether a model's weights are packed while it computes."""
    return getattr(hf, "hf_quantizer", None) is not None and not getattr(_config(hf), "dequantize", False)


def unpacking(hf: PreTrainedModel, method: str | None) -> str | None:
    """What the results say of a packed checkpoint that was unpacked on loading; None: it was not.

    Args:
        hf: the model.
        method: how the checkpoint is packed.
    """
    if method is None or is_packed(hf):
        return None
    return (
        f"The checkpoint's weights are packed ({method}); nothing here computes with them as they are, so they were "
        f"unpacked to {str(hf.dtype).removeprefix('torch.')} on loading."
    )


def packed_weights(hf: PreTrainedModel) -> dict[str, Tensor]:
    """What belongs to a packed model besides its parameters, and those parameters whose layout changes in use.

    bitsandbytes lays 4-bit weights out anew for some CPUs in the first pass. Its `state_dict` would undo that for good,
    and the model would compute nonsense from then on; so copies are taken.
    """
    found = dict[str, Tensor](hf.named_buffers())
    for name, module in hf.named_modules():
        weight: Any = getattr(module, "weight", None)
        state = getattr(weight, "quant_state", None)
        if state is not None:
            values, state = _as_stored(weight.data, state)
            found[f"{name}.weight"] = values
            found |= {f"{name}.weight.{key}": value for key, value in state.as_dict(packed=True).items()}
        scales = getattr(weight, "SCB", None)
        scales = getattr(getattr(module, "state", None), "SCB", None) if scales is None else scales
        if scales is not None:
            found[f"{name}.SCB"] = scales
    return found


def _as_stored(values: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Packed 4-bit weights in the layout that they are stored in."""
    if not getattr(state, "packing_format_for_cpu", False):
        return values, state
    from bitsandbytes import functional  # pyright: ignore[reportMissingImports]

    return cast("Any", functional)._convert_weight_packed_for_cpu_inverse(values.clone(), copy.deepcopy(state))


def described(hf: PreTrainedModel) -> str:
    """How a model's weights are packed while it computes, in words."""
    config = _config(hf)
    if not is_packed(hf):
        return "none"
    method = str(getattr(config.quant_method, "value", config.quant_method))
    if method != "bitsandbytes":
        return method
    bits = f"4 bit ({config.bnb_4bit_quant_type})" if config.load_in_4bit else "8 bit"
    return f"bitsandbytes {version('bitsandbytes')}, {bits}"


def _config(hf: PreTrainedModel) -> Any:
    quantizer: Any = getattr(hf, "hf_quantizer", None)
    return None if quantizer is None else quantizer.quantization_config
