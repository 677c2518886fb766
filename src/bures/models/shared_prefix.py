"""What all prompts begin with (the template's head, a system prompt), computed once for all of them.

Its keys and values are computed under whatever intervention is applied, as those of any prompt are, and handed to every
row of a batch; the rows' own tokens, padded on the left, come behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bures.models.batching import Batch, pad, positions
from bures.models.caches import Before, cache_that_grows, reach, spliced, view
from bures.models.loading import ChatModel
from bures.models.past import past_for
from bures.models.reentry import agrees, ended
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

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, index: Sequence[int], sequences: Sequence[Sequence[int]], pad_id: int) -> Batch:
        """Some of the prompts as a batch: the beginning, pads, and what is each prompt's own."""
        own, attended = pad([sequences[i][len(self.ids) :] for i in index], pad_id=pad_id, side="left")
        begin = torch.tensor(self.ids).expand(len(index), -1)
        ids = torch.cat([begin, own], dim=1)
        return Batch(tuple(index), ids, torch.cat([torch.ones_like(begin, dtype=torch.bool), attended], dim=1))

    def copies(self, rows: int) -> Any:
        """The keys and values for so many rows; a pass may add to them."""
        return view(self.cache, rows=rows)

    def before(self, rows: int) -> Before:
        """What a pass of so many rows begins behind."""
        return Before(len(self.ids), self.copies(rows))

    def alone(self) -> Batch:
        """The beginning as a batch of one row."""
        ids = torch.tensor([self.ids])
        return Batch((0,), ids, torch.ones_like(ids, dtype=torch.bool))

    def again(
        self, model: ChatModel, within: AbstractContextManager[object], entry: int = -1, until: int | None = None
    ) -> Prefix:
        """The same beginning under what is applied now, computed anew behind a block.

        Args:
            model: the model.
            within: holds back the blocks up to `entry`, at what they hand on for the beginning.
            entry: the block; -1: none.
            until: the last block that is computed; keys and values of those behind it are not to be used.
        """
        if entry == len(model.blocks) - 1:
            return self
        found = view(self.cache, upto=0)
        with within, nullcontext() if until is None else ended(model, until):
            _pass(model, self.ids, found)
        return Prefix(self.ids, spliced(self.cache, found, entry))


def width_of(prefix: Prefix | None) -> int:
    """Tokens of a beginning, if there is one."""
    return 0 if prefix is None else len(prefix)


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
    if longest + new_tokens > reach(model):
        return None  # pads behind the beginning would push it out of a window that is counted in places
    ids = tuple(sequences[0][:n])
    cache = _pass(model, ids)
    found = Prefix(ids, cache) if cache is not None and len(cache.layers) == len(model.blocks) else None
    if model.entries.over_prefix is None:
        model.entries.over_prefix = found is not None and _is_right(model, found, sequences)
    return found if model.entries.over_prefix else None


def _pass(model: ChatModel, ids: Sequence[int], cache: Any = None) -> Any:
    """Keys and values of the beginning of a prompt; put into `cache`, if that is given."""
    given = torch.tensor([ids], device=model.device)
    with token_kinds(torch.full_like(given, TokenKind.PROMPT)):
        returned = model.decoder(
            input_ids=given, attention_mask=torch.ones_like(given), **past_for(model.decoder, cache), use_cache=True
        )
    return cache_that_grows(returned)


def common(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens with which all sequences begin, at least one of each left over."""
    first, most = sequences[0], min(map(len, sequences)) - 1
    return next((i for i in range(most) if any(row[i] != first[i] for row in sequences)), max(0, most))


def _is_right(model: ChatModel, prefix: Prefix, sequences: Sequence[Sequence[int]]) -> bool:
    """Whether passes behind the beginning are whole ones, by the shortest and the longest prompt."""
    tried = sorted(sequences, key=len)[:: max(1, len(sequences) - 1)]
    index = range(len(tried))
    whole = _last(model, Batch(tuple(index), *pad(tried, pad_id=model.pad_id, side="left")), None)
    return agrees(lambda: _last(model, prefix.batch(index, tried, model.pad_id), prefix), whole, model.hf.dtype)


def _last(model: ChatModel, batch: Batch, prefix: Prefix | None) -> Tensor:
    """Log-probabilities behind every prompt."""
    attended, start = batch.attended.to(model.device), width_of(prefix)
    with prompt_lengths_are(attended.sum(dim=1)):
        logits = model.hf(
            input_ids=batch.ids[:, start:].to(model.device),
            attention_mask=attended.long(),
            position_ids=positions(attended)[:, start:],
            **past_for(model.hf, None if prefix is None else prefix.copies(len(batch.index))),
            use_cache=prefix is not None,
            logits_to_keep=1,
        ).logits
    return torch.log_softmax(logits[:, -1].float(), dim=-1)
