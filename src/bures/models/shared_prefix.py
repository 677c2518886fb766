"""What all prompts begin with (the template's head, a system prompt), computed once for all of them.

Its keys and values are computed under whatever intervention is applied, as those of any prompt are, and copied to every
row of a batch; the rows' own tokens, padded on the left, come behind.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from bures.models.architecture import text_config
from bures.models.batching import Batch, pad, positions
from bures.models.cached_pass import cache_that_grows
from bures.models.loading import ChatModel
from bures.models.reentry import same
from bures.models.room import is_out_of_memory
from bures.models.tokens import TokenKind, prompt_lengths_are, token_kinds

LEAST = 8
"""Tokens that a common beginning has to have, and rows that have to share it, to be worth a pass of its own."""


@dataclass(frozen=True)
class Prefix:
    """The common beginning of prompts.

    Attributes:
        ids: its tokens.
        cache: their keys and values.
    """

    ids: tuple[int, ...]
    cache: Any

    def rows(self, sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Int[Tensor, "b s"], Bool[Tensor, "b s"]]:
        """Ids and mask of prompts: the beginning, pads, and what is each prompt's own."""
        own, attended = pad([row[len(self.ids) :] for row in sequences], pad_id=pad_id, side="left")
        begin = torch.tensor(self.ids).expand(len(sequences), -1)
        return torch.cat([begin, own], dim=1), torch.cat([torch.ones_like(begin, dtype=torch.bool), attended], dim=1)

    def copies(self, rows: int) -> Any:
        """The keys and values for so many rows; a pass may add to them."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(rows)
        return cache


@torch.inference_mode()
def prefix_of(model: ChatModel, sequences: Sequence[Sequence[int]], new_tokens: int) -> Prefix | None:
    """The common beginning of prompts under what is applied to the model; None where it would not pay or not be right.

    Args:
        model: the model.
        sequences: token ids of the prompts.
        new_tokens: upper bound on the tokens that will follow one.
    """
    n, longest = common(sequences), max(map(len, sequences))
    if min(n, len(sequences)) < LEAST or model.parts.pads_matter or model.entries.over_prefix is False:
        return None
    if longest + new_tokens > _reach(model):
        return None  # pads behind the beginning would push it out of a window that is counted in places
    ids = tuple(sequences[0][:n])
    given = torch.tensor([ids], device=model.device)
    with token_kinds(torch.full_like(given, TokenKind.PROMPT)):
        cache = cache_that_grows(model.decoder(input_ids=given, attention_mask=torch.ones_like(given), use_cache=True))
    found = None if cache is None else Prefix(ids, cache)
    if model.entries.over_prefix is None:
        model.entries.over_prefix = found is not None and _is_right(model, found, sequences)
    return found if model.entries.over_prefix else None


def common(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens with which all sequences begin, at least one of each left over."""
    first, most = sequences[0], min(map(len, sequences)) - 1
    return next((i for i in range(most) if any(row[i] != first[i] for row in sequences)), max(0, most))


def _reach(model: ChatModel) -> float:
    """Places that the narrowest attention of the model sees."""
    config: Any = text_config(model.hf)
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((float(each) for each in windows if isinstance(each, int) and each > 0), default=float("inf"))


def _is_right(model: ChatModel, prefix: Prefix, sequences: Sequence[Sequence[int]]) -> bool:
    """Whether passes behind the beginning are whole ones, by the shortest and the longest prompt."""
    tried = sorted(sequences, key=len)[:: max(1, len(sequences) - 1)]
    ids, attended = pad(tried, pad_id=model.pad_id, side="left")
    whole = _last(model, Batch(tuple(range(len(tried))), ids, attended), None, 0)
    try:
        ids, attended = prefix.rows(tried, model.pad_id)
        batch = Batch(tuple(range(len(tried))), ids, attended)
        found = _last(model, batch, prefix.copies(len(tried)), len(prefix.ids))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return False  # a modelling file that wants the whole prompt
    return same(found, whole, model.hf.dtype)


def _last(model: ChatModel, batch: Batch, cache: Any, cached: int) -> Tensor:
    """Log-probabilities behind every prompt."""
    attended = batch.attended.to(model.device)
    with prompt_lengths_are(attended.sum(dim=1)):
        logits = model.hf(
            input_ids=batch.ids[:, cached:].to(model.device),
            attention_mask=attended.long(),
            position_ids=positions(attended)[:, cached:],
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=1,
        ).logits
    return torch.log_softmax(logits[:, -1].float(), dim=-1)
