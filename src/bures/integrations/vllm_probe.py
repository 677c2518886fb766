"""Whether another engine computes what transformers computes: activations on one prompt, site by site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from bures.models.intervention import Site, Where
from bures.models.loading import ChatModel
from bures.models.probing import tensor_of

WHERES: tuple[Where, ...] = ("output", "input", "attention", "mlp")


def tolerance(model: ChatModel) -> float:
    """Largest relative difference that rounding explains; a residual that was left out makes one near 1."""
    return 0.01 if model.hf.dtype == torch.float32 else 0.2


def module_names(model: ChatModel) -> dict[str, Any]:
    """What the worker needs to know to find the same modules in vLLM's model; an empty name: there is none."""
    names = {child: name for name, child in model.blocks[0].named_children()}
    found = {where: names.get(modules[0], "") if modules else "" for where, modules in _writers(model).items()}
    return {"depth": len(model.blocks), **found}


def _writers(model: ChatModel) -> dict[Where, tuple[nn.Module, ...]]:
    """One module a block for what the attention adds and one for the MLP; none where something else adds as well."""
    parts = model.parts
    if sum(map(len, parts.written.values())) != 2 * len(parts.blocks):
        return {"attention": (), "mlp": ()}
    return {"attention": parts.attentions or (), "mlp": parts.mlps or ()}


@torch.inference_mode()
def activations(model: ChatModel, ids: Sequence[int], sites: Sequence[Site]) -> dict[Site, Tensor]:
    """The transformers model's activations at the last token of a prompt, each (d,) in float32; where it has them."""
    found: dict[Site, Tensor] = {}
    modules = {"input": model.blocks, "output": model.blocks, **_writers(model)}
    with ExitStack() as stack:
        for site in sites:
            if not modules[site.where]:
                continue

            def after(_: nn.Module, __: Any, output: Any, site: Site = site) -> None:
                found[site] = tensor_of(output)[0, -1].float().cpu()

            def before(_: nn.Module, args: Any, kwargs: Any, site: Site = site) -> None:
                found[site] = (args[0] if args else kwargs["hidden_states"])[0, -1].float().cpu()

            module = modules[site.where][site.block]
            if site.where == "input":
                stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            else:
                stack.callback(module.register_forward_hook(after).remove)
        model.decoder(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False)
    return found


def apart(expected: Mapping[Site, Tensor], found: Mapping[Site, Tensor], where: Where) -> float:
    """Largest relative difference over the blocks; infinite where nothing came."""
    sites = [site for site in expected if site.where == where]
    if not sites or any(site not in found or found[site].shape != expected[site].shape for site in sites):
        return float("inf")
    return max(float((found[s] - expected[s]).norm() / expected[s].norm().clamp(min=1e-12)) for s in sites)
