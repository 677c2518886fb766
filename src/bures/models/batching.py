"""Token sequences of different lengths, as padded batches of similar length under a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

TOKEN_BUDGET = 4096
"""Padded tokens in one batch unless told otherwise; about 1 MB of residual stream per block at d = 64 in float32."""


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


def batches(
    sequences: Sequence[Sequence[int]],
    *,
    pad_id: int,
    token_budget: int = TOKEN_BUDGET,
    max_rows: int = 64,
    extra: int = 0,
    equal_length: bool = False,
) -> Iterator[Batch]:
    """Yields batches padded on the left, longest rows first, so that memory runs out at once or not at all.

    Args:
        sequences: token ids, none of them empty.
        pad_id: what pads hold; never attended.
        token_budget: upper bound on rows x (longest row + `extra`), except that a batch always has one row.
        max_rows: upper bound on rows.
        extra: tokens that each row will grow by (generation).
        equal_length: only rows of one length share a batch, for models whose results depend on pads.
    """
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    start = 0
    while start < len(order):
        width = len(sequences[order[start]]) + extra
        rows = max(1, min(max_rows, token_budget // width))
        index = tuple(order[start : start + rows])
        if equal_length:
            index = tuple(i for i in index if len(sequences[i]) == len(sequences[index[0]]))
        ids, attended = pad([sequences[i] for i in index], pad_id=pad_id, side="left")
        yield Batch(index, ids, attended)
        start += len(index)
