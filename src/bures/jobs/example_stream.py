"""The order of training rows: endless batches of similar length, whose place can be kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bures.jobs.examples import Example

POOL = 8
"""Batches whose rows are sorted by length together, so that little is padded."""


@dataclass
class Stream:
    """Endless batches of examples of similar length, in a fresh order each time round, whose place can be kept.

    Attributes:
        examples: what the batches are made of.
        size: rows of a batch; at most the number of examples.
        rng: draws the orders; several streams may share one.
        order: this round's batches, as places in `examples`.
        at: how many of them are done.
    """

    examples: Sequence[Example]
    size: int
    rng: random.Random
    order: list[list[int]] = field(default_factory=list[list[int]])
    at: int = 0

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> list[Example]:
        if self.at == len(self.order):
            self.order, self.at = self._round(), 0
        self.at += 1
        return [self.examples[place] for place in self.order[self.at - 1]]

    def _round(self) -> list[list[int]]:
        size = min(self.size, len(self.examples))
        order = list(range(len(self.examples)))
        self.rng.shuffle(order)
        batches: list[list[int]] = []
        for start in range(0, len(order), POOL * size):
            pool = sorted(order[start : start + POOL * size], key=lambda place: len(self.examples[place]))
            batches += [pool[i : i + size] for i in range(0, len(pool) - size + 1, size)]
        self.rng.shuffle(batches)
        return batches

    def state(self) -> dict[str, Any]:
        """The place in the data, without the generator's."""
        return {"order": self.order, "at": self.at}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was."""
        self.order, self.at = state["order"], state["at"]
