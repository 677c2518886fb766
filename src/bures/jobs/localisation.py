"""Where refusal is decided: the scan's scores and the geometry of the blocks, as figures that hold after a choice.

The effect of a block is the share of first-token refusal that its map removes from harmful prompts,
1 - sum p(refusal | intervened) / sum p(refusal | original). What is chosen among many (the map that speaks for a block,
the strongest block and its map, the strongest pair) is chosen on one half of the selection prompts and measured on the
other, both ways round, so that the best of many does not flatter itself; intervals resample prompts. A candidate whose
KL on harmless prompts is over the limit does not speak, at one block or at several.

`bures.jobs.conclusion` puts them into words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bures.models.methods import METHODS
from bures.results.bootstrap import FEWEST_FOR_T, bootstrap_mean, bootstrap_ratio_of_sums
from bures.results.inference import Reached, cross_fitted, first_reaching, halves
from bures.results.records import BlockRange, Candidate, Effect, ScanScore
from bures.results.stats import Measurement, highest_mean

ONSET, REACHED = 0.5, 0.95
"""The decision begins at the first block with this part of the largest effect, and ends at the first with that part."""

PARTNERS = 3
"""Blocks with which the strongest map is tried together."""

Matrix = NDArray[np.float64]


def probability(log_odds: Sequence[float] | Matrix) -> Matrix:
    """Refusal probabilities from log-odds."""
    return 1.0 / (1.0 + np.exp(-np.asarray(log_odds, dtype=np.float64)))


def removed(original: Sequence[float], moved: Matrix) -> Measurement:
    """Share of refusal probability that is gone, with a bootstrap interval over prompts.

    Where what is left comes to fewer than eight refusals, a few prompts hold it, and resamples know too little of such
    prompts: the end towards more being left is then Wilson's of the mean probability (`docs/statistics.md`).
    """
    before = probability(original)
    kept = bootstrap_ratio_of_sums(moved, before, within=(0.0, len(before) / float(before.sum())))
    low, high = kept.bounds
    if kept.interval is not None and float(moved.sum()) < FEWEST_FOR_T:
        high = max(kept.value, highest_mean(float(moved.mean()), len(moved)) / float(before.mean()))
    return Measurement(1 - kept.value, kept.n, None if kept.interval is None else (1 - high, 1 - low))


@dataclass(frozen=True)
class Scanned:
    """The scan's scores of single blocks, and what follows from them.

    Attributes:
        original: log-odds of the harmful prompts in the original model.
        scores: of all candidates, each on one block.
        max_kl: largest first-token KL with which a candidate may speak.
    """

    original: Sequence[float]
    scores: Sequence[ScanScore]
    max_kl: float

    @property
    def blocks(self) -> list[int]:
        """The scanned blocks, in order."""
        return sorted({score.candidate.blocks[0] for score in self.scores})

    def speaking(self, block: int | None = None) -> list[ScanScore]:
        """The candidates within the KL limit: at a block, or at all."""
        return [
            s
            for s in self.scores
            if s.first_token_kl <= self.max_kl and block in (None, s.candidate.blocks[0]) and len(s.each)
        ]

    def moved(self, block: int | None = None) -> Matrix:
        """Per prompt, the refusal probability that is left: cross-fitted among the candidates that speak."""
        among = self.speaking(block)
        return _cross_fitted(among) if among else probability(self.original)

    def effects(self) -> tuple[Effect, ...]:
        """The cross-fitted effect of every scanned block."""
        return tuple(self._effect((block,), self.speaking(block), self.moved(block)) for block in self.blocks)

    def peak(self) -> Effect:
        """The strongest map at one block: block and map chosen on one half of the prompts, measured on the other.

        It is named after the best of all prompts; each half's choice may be another.
        """
        among = self.speaking()
        blocks = _best(among).candidate.blocks if among else (self.blocks[0],)
        return self._effect(blocks, among, self.moved())

    def none_suffices(self, part: float) -> bool:
        """Whether every candidate that speaks is shown to remove less than a part.

        Were there one that removes as much, it would have to be shown wrongly itself: nothing is adjusted.
        """
        return all(removed(self.original, probability(s.each)).bounds[1] < part for s in self.speaking())

    def band(self) -> tuple[Reached, Reached]:
        """Where the rise of the effect over the blocks begins and ends, as places among the scanned blocks."""
        before, peak = probability(self.original), self.moved()
        at_blocks = before - np.array([self.moved(block) for block in self.blocks])
        onset, reached = (first_reaching(at_blocks, before - peak, part) for part in (ONSET, REACHED))
        return onset, reached

    def _effect(self, blocks: tuple[int, ...], among: Sequence[ScanScore], moved: Matrix) -> Effect:
        if not among:
            return Effect(blocks, None, removed(self.original, moved), None)
        best = _best(among)
        induced = bootstrap_mean(probability(best.induced), within=(0.0, 1.0)) if best.induced else None
        return Effect(blocks, best.candidate.key, removed(self.original, moved), best.first_token_kl, induced)

    # What is tried next -----------------------------------------------------------------------------------------------

    def control(self) -> Candidate | None:
        """The map that is held against shuffled labels: the strongest at the strongest block.

        The strongest within the KL limit that is no ablation; an ablation where there is nothing else; None where no
        candidate is within the limit.
        """
        among = self.speaking()
        if not among:
            return None
        here = self.speaking(_best(among).candidate.blocks[0])
        return _best([s for s in here if not METHODS[s.candidate.method].ablates] or here).candidate

    def proposed_pairs(self) -> tuple[tuple[Candidate, ...], ...]:
        """Per half, the best map on its block together with each of the next strongest; found on the other half."""
        return tuple(self._pairs(~here) for here in halves(len(self.original)))

    def proposed_everywhere(self) -> tuple[tuple[Candidate, ...], ...]:
        """Per half, the map that is the best of the other half, on all scanned blocks."""
        found: list[tuple[Candidate, ...]] = []
        for here in halves(len(self.original)):
            best = _best(self.speaking(), ~here).candidate
            found.append((Candidate(best.method, tuple(self.blocks), best.rank, best.tokens),))
        return tuple(found)

    def _pairs(self, there: NDArray[np.bool_]) -> tuple[Candidate, ...]:
        best = _best(self.speaking(), there).candidate
        others = {b: _best(self.speaking(b), there) for b in self.blocks if b not in best.blocks and self.speaking(b)}
        nearest = sorted(others, key=lambda b: _score(others[b], there))[:PARTNERS]
        return tuple(Candidate(best.method, tuple(sorted({*best.blocks, b})), best.rank, best.tokens) for b in nearest)


def together(
    original: Sequence[float],
    tried: Sequence[ScanScore],
    proposed: Sequence[Sequence[Candidate]],
    max_kl: float,
) -> Effect | None:
    """The strongest of several candidates on several blocks, within the KL limit; None where none is.

    Args:
        original: log-odds of the harmful prompts in the original model.
        tried: the scores of those that could be fitted.
        proposed: per half of the prompts, the candidates found without it.
        max_kl: largest first-token KL with which a candidate may speak.
    """
    among = [s for s in tried if s.first_token_kl <= max_kl]
    keys = [s.candidate.key for s in among]
    offered = [[keys.index(c.key) for c in half if c.key in keys] for half in proposed]
    if not among or not all(offered):
        return None
    best = _best([among[i] for i in {*offered[0], *offered[-1]}])
    moved = _cross_fitted(among, offered)
    return Effect(best.candidate.blocks, best.candidate.key, removed(original, moved), best.first_token_kl)


def ranges(blocks: Sequence[int], band: tuple[Reached, Reached]) -> tuple[BlockRange, BlockRange]:
    """The blocks that may be the first and the last of the band."""
    onset, reached = (BlockRange(blocks[each.low], blocks[each.high]) for each in band)
    return onset, reached


def _score(score: ScanScore, there: NDArray[np.bool_] | None = None) -> tuple[float, float]:
    each = np.asarray(score.each)
    value = score.refusal_log_odds if there is None or not there.any() else float(each[there].mean())
    return value, score.first_token_kl


def _best(scores: Sequence[ScanScore], there: NDArray[np.bool_] | None = None) -> ScanScore:
    """The lowest refusal log-odds, on some of the prompts where given; ties by KL."""
    return min(scores, key=lambda s: _score(s, there))


def _cross_fitted(scores: Sequence[ScanScore], offered: Sequence[Sequence[int]] | None = None) -> Matrix:
    each = np.array([s.each for s in scores], dtype=np.float64)
    return cross_fitted(each, probability(each), offered)
