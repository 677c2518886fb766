"""How many threads and tokens are taken: by a clock that the test moves, and on models that may not change by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bures.models.activations import collect
from bures.models.loading import ChatModel
from bures.models.pace import Pace, halves, measured, raced, threads_kept
from helpers import tiny


class Clock:
    """A clock that stands still but for the steps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[int] = []

    def __call__(self) -> float:
        return self.now

    def step(self, way: int, seconds: float, first: float | None = None) -> Callable[[], None]:
        def taken() -> None:
            self.now += seconds if first is None or way in self.calls else first
            self.calls.append(way)

        return taken


def test_ways_take_turns_and_the_first_round_does_not_count() -> None:
    clock = Clock()
    found = raced({2: clock.step(2, 0.010, first=0.1), 1: clock.step(1, 0.015)}, 1.0, clock)
    assert clock.calls == [2, 1] * 6
    assert found == pytest.approx({2: 0.010, 1: 0.015})


def test_a_hopeless_way_is_not_tried_again() -> None:
    clock = Clock()
    found = raced({2: clock.step(2, 0.050), 1: clock.step(1, 0.010)}, 1.0, clock)
    assert clock.calls.count(2) == 2
    assert list(found) == [1]


@pytest.mark.parametrize(("seconds", "calls"), [(0.4, [4, 2, 1]), (1.5, [4])])
def test_no_pass_begins_behind_the_limit(seconds: float, calls: list[int]) -> None:
    clock = Clock()
    found = raced({way: clock.step(way, seconds) for way in (4, 2, 1)}, 1.0, clock)
    assert clock.calls == calls
    assert found == pytest.approx(dict.fromkeys(calls, seconds))


def test_one_way_is_not_timed() -> None:
    clock = Clock()
    assert list(raced({1: clock.step(1, 1.0)}, 1.0, clock)) == [1]
    assert clock.calls == []


def test_halves() -> None:
    assert halves(6) == [6, 3, 1]
    assert halves(4096, 512) == [4096, 2048, 1024, 512]
    assert halves(100, 512) == [100]


def test_measuring_leaves_threads_and_model_as_they_were(llama: ChatModel) -> None:
    before = collect(llama, tiny.PROMPTS, blocks=[1])[1]
    with threads_kept():
        torch.set_num_threads(2)
        found = measured(llama, llama.encode(tiny.PROMPTS), 1024)
        assert torch.get_num_threads() == 2
    assert found.threads in (1, 2)
    assert found.token_budget in (1024, 512)
    assert torch.equal(collect(llama, tiny.PROMPTS, blocks=[1])[1], before)


def test_the_budget_is_of_passes_that_only_read(llama: ChatModel) -> None:
    room = llama.room
    try:
        room.quickest = Pace(1, 512).token_budget
        assert room.budget("activations", 4096) == room.budget("perplexity", 4096) == 512
        assert room.budget("activations", 256) == 256
        assert room.budget("answers", 4096) == room.budget("costs", 4096) == 4096
        assert room.notes() == ()  # of memory alone
    finally:
        room.quickest = None


def test_threads_come_back_whatever_happens() -> None:
    def fails() -> None:
        with threads_kept():
            torch.set_num_threads(before + 1)
            raise ValueError("on the way")

    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="on the way"):
        fails()
    assert torch.get_num_threads() == before
