"""Passes of a prompt's end alone, over the keys and values of what stands before it.

An intervention at the last prompt token leaves every earlier position as it is, in every block: their keys and values
are the original's, computed once. Under it, only the end of a prompt is a new pass.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bures.models.architecture import text_config
from bures.models.batching import Batch, positions
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.memory import cached_numbers
from bures.models.reentry import entered
from bures.models.tokens import kinds_of, token_kinds

CACHED = 256 << 20
"""Bytes of keys and values that are kept for one set of prompts."""


def cached_bytes(model: ChatModel, tokens: int) -> int:
    """Bytes of the keys and values of so many tokens, by the configuration."""
    return tokens * len(model.blocks) * cached_numbers(text_config(model.hf)) * model.hf.dtype.itemsize


def past_of(model: ChatModel, batch: Batch, end: int) -> Any:
    """Keys and values of all but the last `end` positions; None where nothing is left, or the model keeps others."""
    if batch.ids.shape[1] <= end:
        return None
    attended = batch.attended[:, :-end].to(model.device)
    with token_kinds(kinds_of(attended, attended.sum(dim=1))):
        returned = model.decoder(
            input_ids=batch.ids[:, :-end].to(model.device),
            attention_mask=attended.long(),
            position_ids=positions(attended),
            use_cache=True,
        )
    return cache_that_grows(returned)


def cache_that_grows(returned: Any) -> Any:
    """The keys and values that a decoder returned; None where the model keeps a state that a pass changes in place."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    cache = getattr(returned, "past_key_values", None)
    layers = list(getattr(cache, "layers", ()))
    return cache if layers and {type(layer) for layer in layers} <= {DynamicLayer, DynamicSlidingWindowLayer} else None


def end_log_probs(
    model: ChatModel, batch: Batch, end: int, cache: Any, behind: tuple[int, Any], intervention: Intervention
) -> Float[Tensor, "b vocabulary"]:
    """Float32 log-probabilities at the last position, by a pass of the last `end` positions alone.

    Args:
        model: the model.
        batch: prompts, and beginnings of answers.
        end: the last prompt token, and what stands behind it.
        cache: keys and values of all before; as it was, afterwards.
        behind: the block behind which the pass begins, and what it hands on; -1: before the first.
        intervention: what is applied.
    """
    attended = batch.attended.to(model.device)
    kinds = kinds_of(attended, attended.sum(dim=1) - (end - 1))[:, -end:]
    block, stream = behind
    # a pass puts new tensors in the place of the old ones; those of the blocks that are held back stay as they are
    before = [dict(vars(layer)) for layer in cache.layers]
    try:
        with intervention.applied(model), token_kinds(kinds), entered(model, block, _end_of(stream, end)):
            logits = model.hf(
                input_ids=batch.ids[:, -end:].to(model.device),
                attention_mask=attended.long(),
                position_ids=positions(attended)[:, -end:],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
    finally:
        for layer, state in zip(cache.layers, before, strict=True):
            vars(layer).clear()
            vars(layer).update(state)
    return torch.log_softmax(logits[:, -1].float(), dim=-1)


def _end_of(stream: Any, end: int) -> Any:
    """The last positions of what a block hands on: a tensor, or a tuple that begins with one."""
    if isinstance(stream, tuple):
        return (stream[0][:, -end:], *stream[1:])
    return stream[:, -end:] if isinstance(stream, Tensor) else stream
