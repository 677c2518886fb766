"""The parts of a decoder that hooks attach to, found by structure and never by a model's name.

The blocks are the one `ModuleList` inside the decoder that has as many members as the configuration has hidden layers,
each with one attention child and one MLP child. What was found is then checked against the model's own `hidden_states`
on a few tokens, so an architecture that merely looks alike is refused.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from bures.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Parts:
    """Decoder (the network without `lm_head`), its blocks first to last, and what each adds to the residual stream."""

    decoder: nn.Module
    blocks: tuple[nn.Module, ...]
    attentions: tuple[nn.Module, ...]
    mlps: tuple[nn.Module, ...]


def find_parts(hf: PreTrainedModel, name: str) -> Parts:
    """The parts of a model.

    Raises:
        ModelError: they were not found, or are not what they seem; the architecture is named.
    """
    decoder = cast("nn.Module", hf.get_decoder()) if hasattr(hf, "get_decoder") else hf
    blocks = _find_blocks(hf, decoder, name)
    parts = Parts(
        decoder=decoder,
        blocks=blocks,
        attentions=tuple(_writer(block, _attention_children(block), "attention", hf, name) for block in blocks),
        mlps=tuple(_writer(block, _mlp_children(block), "feedforward", hf, name) for block in blocks),
    )
    _verify(parts, hf)
    return parts


def tensor_of(output: Any) -> Tensor:
    """The residual stream in what a block returned: the tensor itself, or the first member of a tuple."""
    return cast("Tensor", output[0] if isinstance(output, tuple) else output)


def text_config(hf: PreTrainedModel) -> Any:
    """The language model's configuration, also inside a multimodal one."""
    return cast("Any", hf.config).get_text_config()


def _refuse(hf: nn.Module, what: str) -> ModelError:
    return ModelError(
        f"architecture {type(hf).__name__} is not supported: {what}; expected a decoder-only transformer "
        "such as Llama, Qwen2/3, Gemma 2/3, Mistral or Phi-3"
    )


def _find_blocks(hf: PreTrainedModel, decoder: nn.Module, name: str) -> tuple[nn.Module, ...]:
    depth = getattr(text_config(hf), "num_hidden_layers", None)
    if depth is None or getattr(hf.config, "is_encoder_decoder", False):
        raise _refuse(hf, f"{name} is not decoder-only")
    found = [
        tuple(module)
        for module in decoder.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == depth
        and all(_attention_children(b) and _mlp_children(b) for b in module)
    ]
    if len(found) != 1:
        raise _refuse(hf, f"{len(found)} lists of {depth} blocks with attention and MLP, expected one")
    return found[0]


def _attention_children(block: nn.Module) -> list[nn.Module]:
    """Children that read an attention mask."""
    return [m for m in block.children() if "attention_mask" in inspect.signature(m.forward).parameters]


def _mlp_children(block: nn.Module) -> list[nn.Module]:
    """Children with weight matrices that read no attention mask (so neither norms nor attention)."""
    return [
        m
        for m in block.children()
        if "attention_mask" not in inspect.signature(m.forward).parameters and any(p.ndim >= 2 for p in m.parameters())
    ]


def _writer(block: nn.Module, found: list[nn.Module], what: str, hf: nn.Module, name: str) -> nn.Module:
    """The module whose output is added to the residual stream.

    In blocks with sandwich norms (Gemma 2 and 3) that is the norm behind the attention or MLP: its weights would bring
    an ablated direction back.
    """
    if len(found) != 1:
        raise _refuse(hf, f"a block of {name} has {len(found)} {what} modules, expected one")
    if hasattr(block, "pre_feedforward_layernorm"):
        return cast("nn.Module", getattr(block, f"post_{what}_layernorm"))
    return found[0]


@torch.inference_mode()
def _verify(parts: Parts, hf: PreTrainedModel) -> None:
    """Refuses a model whose blocks' outputs are not its own `hidden_states`."""
    outputs: dict[int, Tensor] = {}
    handles: list[Any] = []
    try:
        for i, block in enumerate(parts.blocks):

            def keep(_: nn.Module, __: Any, output: Any, i: int = i) -> None:
                outputs[i] = tensor_of(output)

            handles.append(block.register_forward_hook(keep))
        ids = torch.zeros((1, 3), dtype=torch.long, device=next(hf.get_input_embeddings().parameters()).device)
        states = parts.decoder(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    finally:
        for handle in handles:
            handle.remove()
    # The last entry of hidden_states has been through the final norm.
    same = len(states) == len(outputs) + 1 == len(parts.blocks) + 1 and all(
        torch.equal(states[i + 1], outputs[i].to(states[i + 1].device)) or states[i + 1].isnan().any()
        for i in range(len(parts.blocks) - 1)
    )
    if not same:
        raise _refuse(hf, "the blocks' outputs are not the model's hidden_states")
