"""Token sequences of different lengths, as padded batches under a token budget, cut so that little of them is pads.

A pad costs what a token costs, and a pass costs something however small it is (`Room.a_pass`, in tokens). So rows, by
length, are cut into the batches in which pads and passes together are fewest.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from itertools import takewhile
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from bures.models.room import Room

TOKEN_BUDGET = 4096
"""Padded tokens in one batch unless told otherwise; about 1 MB of residual stream per block at d = 64 in float32."""

LOGIT_BUDGET = 1 << 27
"""Logits held at once (float32: 512 MB); rows of a batch are limited by it where the vocabulary is large."""


@dataclass(frozen=True)
class Batch:
    """One padded batch.

    Attributes:
        index: the rows' places in the caller's list.
        ids: token ids, padded.
        attended: False on pads.
    """

    index: tuple[int, ...]
    ids: Int[Tensor, "b s"]
    attended: Bool[Tensor, "b s"]

    def row(self, place: int) -> Batch:
        """One row, as it is padded."""
        one = slice(place, place + 1 or None)
        return Batch(self.index[one], self.ids[one], self.attended[one])

    def halves(self) -> tuple[Batch, Batch]:
        """The first and the second half of the rows, as they are padded."""
        middle = len(self.index) // 2
        parts = (slice(None, middle), slice(middle, None))
        first, second = (Batch(self.index[part], self.ids[part], self.attended[part]) for part in parts)
        return first, second


def pad(
    sequences: Sequence[Sequence[int]], *, pad_id: int, side: Literal["left", "right"]
) -> tuple[Int[Tensor, "b s"], Bool[Tensor, "b s"]]:
    """Pads token sequences to the longest; returns the ids and the mask of real tokens."""
    width = max(len(row) for row in sequences)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    attended = torch.zeros((len(sequences), width), dtype=torch.bool)
    for i, row in enumerate(sequences):
        span = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, span] = torch.tensor(row, dtype=torch.long)
        attended[i, span] = True
    return ids, attended


def positions(attended: Tensor) -> Int[Tensor, "b s"]:
    """Place of every real token in its row, from the mask, whatever the side of the pads; 0 on leading pads."""
    return (attended.long().cumsum(dim=1) - 1).clamp(min=0)


@dataclass
class Batches:
    """Batches padded on the left, longest rows first, cut so that pads and passes together are fewest.

    Where memory runs out, the rows of that batch come again in smaller ones, if the caller says where it computes:

        for batch in (todo := Batches(sequences, ...)):
            with todo.trying(batch):
                ...

    Attributes:
        sequences: token ids, none of them empty.
        pad_id: what pads hold; never attended.
        token_budget: upper bound on rows x (longest row + `extra`), except that a batch always has one row.
        max_rows: upper bound on rows.
        extra: tokens that each row will grow by (generation), a pass each.
        equal_length: only rows of one length share a batch, for models whose results depend on pads.
        room: the model's, which knows how much was too much, and what a pass costs.
        work: the kind of pass.
    """

    sequences: Sequence[Sequence[int]]
    _: KW_ONLY
    pad_id: int
    token_budget: int = TOKEN_BUDGET
    max_rows: int = 64
    extra: int = 0
    equal_length: bool = False
    room: Room = field(default_factory=Room)
    work: str = "passes"

    def __post_init__(self) -> None:
        self._lengths = [len(row) for row in self.sequences]
        self._order = sorted(range(len(self._lengths)), key=lambda i: -self._lengths[i])
        self._done = 0
        self._cuts: tuple[int, list[int]] = (0, [])  # under which budget, and what `cuts` says

    def __iter__(self) -> Iterator[Batch]:
        self._done = 0
        while self._done < len(self._order):
            index = self._next()
            self._done += len(index)
            yield Batch(index, *pad([self.sequences[i] for i in index], pad_id=self.pad_id, side="left"))

    @contextmanager
    def trying(self, batch: Batch) -> Generator[None]:
        """Around what is computed of a batch; where memory runs out, the loop goes on with a part of it.

        Raises:
            ModelError: it is a single row.
        """
        with self.room.trying(self.work, *self._size(batch)) as attempt:
            yield
        if attempt.failed:
            self._done -= len(batch.index)

    def _size(self, batch: Batch) -> tuple[int, int]:
        rows, width = batch.ids.shape
        return rows, width + self.extra

    def _next(self) -> tuple[int, ...]:
        """The rows that come next."""
        budget = self.room.budget(self.work, self.token_budget)
        if self._cuts[0] != budget:
            lengths = [self._lengths[i] for i in self._order]
            most = [max(1, min(self.max_rows, budget // (length + self.extra))) for length in lengths]
            if self.equal_length:
                most = [*map(min, most, _alike(lengths))]
            self._cuts = budget, cuts(lengths, most, self.room.a_pass * (1 + self.extra))
        return tuple(self._order[self._done : self._done + self._cuts[1][self._done]])


def _alike(lengths: Sequence[int]) -> list[int]:
    """How many rows from each on have its length."""
    return [1 + sum(1 for _ in takewhile(length.__eq__, lengths[i + 1 :])) for i, length in enumerate(lengths)]


def cuts(lengths: Sequence[int], most: Sequence[int], a_batch: int) -> list[int]:
    """How many rows a batch has that begins with each row, for the fewest pads and batches together.

    Args:
        lengths: of the rows, the longest first.
        most: of the rows that a batch may have which begins with each.
        a_batch: what a batch costs besides its tokens, in tokens.
    """
    n = len(lengths)
    rows, cost = [1] * n, [0] * (n + 1)  # of all rows from each on
    for first in reversed(range(n)):
        upto = min(most[first], n - first)
        taken = [a_batch + count * lengths[first] + cost[first + count] for count in range(1, upto + 1)]
        cost[first] = min(taken)
        rows[first] = 1 + taken.index(cost[first])
    return rows
