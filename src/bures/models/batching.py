"""Token sequences of different lengths, as padded batches of similar length under a token budget."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
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
    """Batches padded on the left, longest rows first, so that memory runs out at once or not at all.

    Where it does, the rows of that batch come again in smaller ones, if the caller says where it computes:

        for batch in (todo := Batches(sequences, ...)):
            with todo.trying(batch):
                ...

    Attributes:
        sequences: token ids, none of them empty.
        pad_id: what pads hold; never attended.
        token_budget: upper bound on rows x (longest row + `extra`), except that a batch always has one row.
        max_rows: upper bound on rows.
        extra: tokens that each row will grow by (generation).
        equal_length: only rows of one length share a batch, for models whose results depend on pads.
        room: the model's, which knows how much was too much.
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
        longest = self._lengths[self._order[self._done]]
        budget = self.room.budget(self.work, self.token_budget)
        rows = max(1, min(self.max_rows, budget // (longest + self.extra)))
        index = self._order[self._done : self._done + rows]
        return tuple(i for i in index if not self.equal_length or self._lengths[i] == longest)


def batches(
    sequences: Sequence[Sequence[int]], *, pad_id: int, token_budget: int = TOKEN_BUDGET, equal_length: bool = False
) -> list[Batch]:
    """All batches at once, for whoever goes over them again and again; see `Batches`."""
    return [*Batches(sequences, pad_id=pad_id, token_budget=token_budget, equal_length=equal_length)]
