"""With how many threads, and in batches of how many tokens, a model computes quickest: found by a short measurement.

A machine that others use too gets slower with more threads, not faster: each pass waits for the thread that was put off
longest. And a large batch of prompts can fall out of the processor's caches. So the first blocks are run on a few
prompts in several ways, which take turns. Answers are left alone: they read all weights for every token of a batch, and
are the quicker the more rows it has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bures.models.activations import run_blocks
from bures.models.batching import TOKEN_BUDGET, Batch, pad
from bures.models.loading import ChatModel

LIMIT = 0.5
"""Seconds after which no further round of one of the two measurements begins."""

_ROUNDS = 5
_HOPELESS = 2.0
"""What takes this many times the best is not tried again."""

_MORE_THREADS, _LARGER = 1.1, 1.05
"""How much slower fewer threads and larger batches may be than the best, and are taken all the same."""

_SMALLEST, _LONGEST = 512, 256
"""Tokens of the smallest batch that is tried, and of a prompt in it."""


@dataclass(frozen=True)
class Pace:
    """What was found.

    Attributes:
        threads: of every pass.
        token_budget: padded tokens of a batch of prompts that are only read.
    """

    threads: int
    token_budget: int


@contextmanager
def threads_kept() -> Generator[None]:
    """Behind the block, torch has as many threads as before it."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measured(model: ChatModel, sequences: Sequence[Sequence[int]], token_budget: int = TOKEN_BUDGET) -> Pace:
    """The quickest pace of a model on this machine's processors; takes about a second, or one round of the passes.

    Args:
        model: the model, on the CPU.
        sequences: token ids of a few prompts.
        token_budget: the largest that is tried; the number of threads that torch has is the largest of these.
    """
    few = _batch(model, sequences, _SMALLEST)

    def with_threads(number: int) -> Callable[[], object]:
        def step() -> None:
            torch.set_num_threads(number)
            _pass(model, few)

        return step

    with threads_kept():
        by_threads = raced({n: with_threads(n) for n in halves(torch.get_num_threads())})
        threads = min(n for n, each in by_threads.items() if each <= _MORE_THREADS * min(by_threads.values()))
        torch.set_num_threads(threads)
        made = {n: _batch(model, sequences, n) for n in halves(token_budget, _SMALLEST)}
        by_size = raced({n: lambda batch=batch: _pass(model, batch) for n, batch in reversed(made.items())})
        a_token = {n: seconds / made[n].ids.numel() for n, seconds in by_size.items()}
        larger = max(n for n, each in a_token.items() if each <= _LARGER * min(a_token.values()))
    return Pace(threads, larger)


def halves(most: int, least: int = 1) -> list[int]:
    """A number, its half and so on, as long as that is not below the least."""
    found = [most]
    while found[-1] // 2 >= least:
        found.append(found[-1] // 2)
    return found


def raced(
    ways: Mapping[int, Callable[[], object]], limit: float = LIMIT, clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Mean seconds of several ways to do something, which take turns; those of them that time was left for.

    The first round, in which threads are started and memory is taken, counts only where time runs out in it.

    Args:
        ways: at least one, by a number; each is called several times.
        limit: seconds after which nothing begins.
        clock: seconds.
    """
    if len(ways) == 1:
        return dict.fromkeys(ways, 0.0)
    began, left, rounds = clock(), dict.fromkeys(ways, 0.0), 0
    warm = _turn(ways, left, began + limit, clock)
    if len(warm) < len(ways):
        return warm
    while rounds < _ROUNDS and clock() - began < limit:
        taken = _turn(ways, left, began + limit, clock)
        if len(taken) < len(left):
            break
        rounds += 1
        best = min(left[way] + seconds for way, seconds in taken.items())
        left = {way: left[way] + seconds for way, seconds in taken.items() if left[way] + seconds <= _HOPELESS * best}
    return {way: seconds / rounds for way, seconds in left.items()} if rounds else warm


def _turn(
    ways: Mapping[int, Callable[[], object]], left: Mapping[int, float], until: float, clock: Callable[[], float]
) -> dict[int, float]:
    """Seconds of one round, those of the first at any rate."""
    taken: dict[int, float] = {}
    for way in left:
        before = clock()
        if taken and before >= until:
            break
        ways[way]()
        taken[way] = clock() - before
    return taken


def _batch(model: ChatModel, sequences: Sequence[Sequence[int]], tokens: int) -> Batch:
    """Prompts, again and again, in as many rows as the tokens allow."""
    ends = [list(row[-_LONGEST:]) for row in sequences]
    rows = [ends[i % len(ends)] for i in range(max(1, tokens // max(map(len, ends))))]
    return Batch(tuple(range(len(rows))), *pad(rows, pad_id=model.pad_id, side="left"))


@torch.inference_mode()
def _pass(model: ChatModel, batch: Batch) -> None:
    """The first two blocks."""
    run_blocks(model, batch, {}, until=min(1, len(model.blocks) - 1))
