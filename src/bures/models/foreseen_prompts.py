"""The batches that prompts will come in, and the passes along them, counted before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bures.models.batching import Batches
from bures.models.costing import Pass
from bures.models.shared_prefix import LEAST, common


@dataclass(frozen=True)
class Prompts:
    """A set of prompts as tokens.

    Attributes:
        sequences: token ids, or as many zeros as there are tokens.
        shared: tokens with which all begin, if that is worth a pass of its own.
        budget: padded tokens of one pass.
    """

    sequences: Sequence[Sequence[int]]
    shared: int
    budget: int
    _batched: dict[tuple[int, int], list[tuple[int, int]]] = field(
        default_factory=dict[tuple[int, int], list[tuple[int, int]]], init=False, repr=False, compare=False
    )
    _answered: dict[int, Prompts] = field(default_factory=dict[int, "Prompts"], init=False, repr=False, compare=False)

    @staticmethod
    def of(sequences: Sequence[Sequence[int]], budget: int, *, begin: int | None = None) -> Prompts:
        """With the beginning that they share, or one of `begin` tokens where the ids are not known."""
        found = (common(sequences) if begin is None else begin) if sequences else 0
        return Prompts(sequences, found if min(found, len(sequences)) >= LEAST else 0, budget)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def tokens(self) -> int:
        """Of all prompts."""
        return sum(map(len, self.sequences))

    def first(self, n: int) -> Prompts:
        """The first of them."""
        return replace(self, sequences=self.sequences[:n])

    def answered(self, tokens: int) -> Prompts:
        """With answers of so many tokens behind them."""
        if tokens not in self._answered:
            self._answered[tokens] = replace(self, sequences=[[*each, *[0] * tokens] for each in self.sequences])
        return self._answered[tokens]

    def batches(self, extra: int = 0, max_rows: int = 64) -> list[tuple[int, int]]:
        """(rows, padded tokens of a row behind the shared ones) of each batch."""
        found = self._batched.get((extra, max_rows))
        if found is None:
            todo = Batches(self.sequences, pad_id=0, token_budget=self.budget, max_rows=max_rows, extra=extra)
            found = [(len(batch.index), batch.ids.shape[1] - self.shared) for batch in todo]
            self._batched[extra, max_rows] = found
        return found

    def begun(self, depth: float = 1.0) -> list[Pass]:
        """The pass of what they share."""
        return [Pass(self.shared, depth)] if self.shared and depth > 0 else []

    def read(self, depth: float = 1.0, logits: int = 1, extra: int = 0, max_rows: int = 64) -> list[Pass]:
        """Passes of what is each prompt's own, `logits` positions of each wanted."""
        if depth <= 0:
            return [Pass(0, 0.0, rows * logits) for rows, _ in self.batches(extra, max_rows) if logits]
        return [Pass(rows * width, depth, rows * logits) for rows, width in self.batches(extra, max_rows)]

    def ends(self, places: int, depth: float, logits: int = 1, extra: int = 0, max_rows: int = 64) -> list[Pass]:
        """Passes of the last places of each prompt."""
        return [Pass(rows * places * (depth > 0), depth, rows * logits) for rows, _ in self.batches(extra, max_rows)]

    def going_on(self, steps: int | float, extra: int) -> list[Pass]:
        """Passes of one token each, behind prompts that are in the cache."""
        return [Pass(rows, 1.0, rows, steps) for rows, _ in self.batches(extra) if steps > 0]

    def generated(self, tokens: int) -> list[Pass]:
        """Answers of so many tokens from the prompts on."""
        return [*self.begun(), *self.read(extra=tokens), *self.going_on(tokens - 1, tokens)]
