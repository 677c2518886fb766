"""Padding and batching: every row once, within the budget, the mask true to the tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bures.models.batching import Batches, cuts, pad
from bures.models.room import Room

rows = st.lists(st.lists(st.integers(3, 99), min_size=1, max_size=12), min_size=1, max_size=30)


@pytest.mark.parametrize("side", ["left", "right"])
def test_pad_by_hand(side: Literal["left", "right"]) -> None:
    ids, attended = pad([[5, 6, 7], [8]], pad_id=2, side=side)
    if side == "left":
        assert ids.tolist() == [[5, 6, 7], [2, 2, 8]]
        assert attended.tolist() == [[True, True, True], [False, False, True]]
    else:
        assert ids.tolist() == [[5, 6, 7], [8, 2, 2]]
        assert attended.tolist() == [[True, True, True], [True, False, False]]
    assert ids.dtype == torch.long


def test_a_token_equal_to_the_pad_id_is_still_attended() -> None:
    ids, attended = pad([[2, 2], [2]], pad_id=2, side="left")
    assert ids.tolist() == [[2, 2], [2, 2]]
    assert attended.tolist() == [[True, True], [False, True]]


@given(rows=rows, budget=st.integers(1, 60), most=st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_batches_hold_every_row_once_within_the_budget(rows: list[list[int]], budget: int, most: int) -> None:
    seen: dict[int, list[int]] = {}
    widths = []
    for batch in Batches(rows, pad_id=2, token_budget=budget, max_rows=most, extra=1):
        count, width = batch.ids.shape
        assert count == len(batch.index) <= most
        assert count == 1 or count * (width + 1) <= budget
        assert width == max(len(rows[i]) for i in batch.index)
        widths.append(width)
        for i, ids, attended in zip(batch.index, batch.ids, batch.attended, strict=True):
            assert i not in seen
            seen[i] = ids[attended].tolist()
            assert (ids[~attended] == 2).all()
            place = attended.long().argmax()
            assert attended[place : place + len(rows[i])].all()
    assert [seen[i] for i in range(len(rows))] == rows
    assert widths == sorted(widths, reverse=True)


def test_the_budget_counts_the_tokens_that_will_be_generated() -> None:
    sizes = [len(b.index) for b in Batches([[3] * 4] * 8, pad_id=2, token_budget=40, extra=0)]
    grown = [len(b.index) for b in Batches([[3] * 4] * 8, pad_id=2, token_budget=40, extra=6)]
    assert sizes == [8]
    assert grown == [4, 4]


def test_a_row_beyond_the_budget_comes_alone() -> None:
    assert [b.index for b in Batches([[3] * 50, [4] * 50], pad_id=2, token_budget=10)] == [(0,), (1,)]


def test_no_rows_no_batches() -> None:
    assert list(Batches([], pad_id=2)) == []


def cost_of(sizes: Sequence[int], lengths: Sequence[int], a_batch: int) -> int:
    """Of batches of so many rows, one behind the other: each is as wide as its first row."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return sum(a_batch + rows * lengths[start] for start, rows in zip(starts, sizes, strict=True))


def ways(n: int) -> Iterator[tuple[int, ...]]:
    """Every way to cut n rows."""
    if n == 0:
        yield ()
    for first in range(1, n + 1):
        yield from ((first, *rest) for rest in ways(n - first))


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9), most=st.integers(1, 9), a_batch=st.integers(0, 60))
@settings(deadline=None, max_examples=60)
def test_no_other_cuts_have_fewer_pads_and_passes(lengths: list[int], most: int, a_batch: int) -> None:
    lengths, found = sorted(lengths, reverse=True), list[int]()
    rows = cuts(lengths, [most] * len(lengths), a_batch)
    while sum(found) < len(lengths):
        found.append(rows[sum(found)])
    allowed = (way for way in ways(len(lengths)) if max(way) <= most)
    assert max(found) <= most
    assert cost_of(found, lengths, a_batch) == min(cost_of(way, lengths, a_batch) for way in allowed)


def test_short_rows_are_not_padded_to_a_long_one_where_a_pass_costs_less_than_the_pads() -> None:
    rows = [[3] * 40, *([4] * 10 for _ in range(6))]
    dear, cheap = ([len(b.index) for b in Batches(rows, pad_id=2, room=Room(a_pass=n))] for n in (200, 48))
    assert (dear, cheap) == ([7], [1, 6])
    assert [len(b.index) for b in Batches(rows, pad_id=2, extra=9, room=Room(a_pass=48))] == [7], "ten passes a batch"


def test_a_pass_costs_more_tokens_on_an_accelerator() -> None:
    assert Room.on(torch.device("cpu")).a_pass < Room.on(torch.device("cuda")).a_pass


@given(rows=rows)
@settings(deadline=None, max_examples=30)
def test_rows_of_one_length_share_a_batch_where_pads_matter(rows: list[list[int]]) -> None:
    found = list(Batches(rows, pad_id=2, equal_length=True))
    assert sorted(i for batch in found for i in batch.index) == list(range(len(rows)))
    assert all(bool(batch.attended.all()) for batch in found)
    assert len(found) == len({len(row) for row in rows})
