"""Models whose layers do not all fit: accelerate keeps some in memory or on disk and brings each as it is needed.

Where such a layer is not in use its parameters are on the `meta` device, without values. Hooks on blocks see nothing of
it; only where values or devices of parameters are asked for does it matter, and that is here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bures.errors import ModelError
from bures.models.quantization import is_packed, packed_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def device_of(hf: PreTrainedModel) -> torch.device:
    """Where token ids must be: the device on which the input embeddings compute."""
    embeddings = hf.get_input_embeddings()
    held = next(embeddings.parameters()).device
    if held.type != "meta":
        return held
    for hook in _hooks(embeddings):
        if hook.execution_device is not None:
            return torch.device(hook.execution_device)
    return held


def offloaded(hf: PreTrainedModel) -> frozenset[str]:
    """Names of the parameters that are brought for every pass."""
    return frozenset(name for name, parameter in hf.named_parameters() if parameter.is_meta)


def whereabouts(hf: PreTrainedModel) -> str | None:
    """How much of a model is brought for every pass, in words; None: nothing."""
    away = offloaded(hf)
    if not away:
        return None
    share = sum(p.numel() for p in hf.parameters() if p.is_meta) / sum(p.numel() for p in hf.parameters())
    return f"{share:.0%} of the weights are brought from memory or disk for every pass"


def remarks(hf: PreTrainedModel) -> tuple[str, ...]:
    """What a reader of the figures has to know of it."""
    away = whereabouts(hf)
    return () if away is None else (f"{away}: slower, and the figures are the same.",)


def count(hf: PreTrainedModel) -> int:
    """Number of parameters, tied ones once, packed ones as many as they stand for."""
    found = dict(hf.named_parameters())
    return hf.num_parameters() - sum(found[name].numel() for name in found if _is_repeated(hf, name, found))


def weights(hf: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Every weight by its name, each once, wherever it is kept: sorted, as the model computes with it.

    Of a quantised model what belongs to the packed weights (scales, zeros) comes too.

    Raises:
        ModelError: a weight is kept where it cannot be read.
    """
    found: dict[str, Any] = dict(hf.named_parameters())
    if is_packed(hf):
        found |= packed_weights(hf)
    for name in sorted(found):
        tensor = found[name]
        if not isinstance(tensor, Tensor) or _is_repeated(hf, name, found):
            continue
        yield name, _read(hf, name).to(tensor.dtype) if tensor.is_meta else tensor.detach()


def fingerprint(hf: PreTrainedModel) -> str:
    """sha256 over names, shapes and evenly spaced values (1,024 to 2,047) of every weight, as loaded."""
    digest = hashlib.sha256()
    for name, weight in weights(hf):
        values = weight.flatten()
        step = max(1, values.numel() // 1024)
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(values[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _is_repeated(hf: PreTrainedModel, name: str, found: dict[str, Any]) -> bool:
    """Whether a weight is tied to another: once they are offloaded, the two no longer look the same."""
    tied: dict[str, str] = getattr(hf, "all_tied_weights_keys", None) or {}
    source = tied.get(name)
    if source is None or source not in found:
        return False
    a, b = found[name], found[source]
    if not a.is_meta and not b.is_meta:
        return a.data_ptr() == b.data_ptr()
    values = [_read(hf, n) if found[n].is_meta else found[n].detach() for n in (name, source)]
    return torch.equal(*(v.cpu() for v in values))


def _read(hf: PreTrainedModel, name: str) -> Tensor:
    """The values of an offloaded weight."""
    path = name.split(".")
    for depth in range(len(path) - 1, -1, -1):
        module = hf.get_submodule(".".join(path[:depth]))
        for hook in _hooks(module):
            try:
                return hook.weights_map[".".join(path[depth:])]
            except (KeyError, TypeError):  # kept by another hook; none is kept at all
                continue
    raise ModelError(
        f"the values of {name} are on no device and in no offload folder; load the model with --device cpu, or with "
        "--device auto and all its files in place"
    )


def _hooks(module: nn.Module) -> Iterator[Any]:
    """accelerate's hooks of a module that move weights."""
    hook: Any = getattr(module, "_hf_hook", None)
    for each in getattr(hook, "hooks", (hook,)):
        if hasattr(each, "execution_device"):
            yield each
