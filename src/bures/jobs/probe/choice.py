"""At which block a detector reads: chosen on prompts, or on sources of prompts, that it was not fitted on.

Where several sources of a side are given, each is left out in turn: the detector is fitted on the others and tells the
prompts of the one left out from the selection prompts of the other side (those of its own side, where the other side's
source is left out). Otherwise it tells the selection prompts apart. The highest AUROC on average is chosen; between
equal ones, the largest distance of the mean scores in standard deviations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bures.errors import FitError
from bures.results.stats import auroc

Rows = TypeVar("Rows")
Scores = NDArray[np.float64]
Score = Callable[[Rows], Scores]


@dataclass(frozen=True)
class Fold(Generic[Rows]):
    """What one fit of a choice is fitted on, as lists of sources, and what it tells apart."""

    harmful: Sequence[Rows]
    harmless: Sequence[Rows]
    held_harmful: Rows
    held_harmless: Rows


def folds_of(
    harmful: Sequence[Rows], harmless: Sequence[Rows], select_harmful: Rows, select_harmless: Rows
) -> list[Fold[Rows]]:
    """The fits of a choice: one for each source left out of a side that has several, else a single one."""
    found = [
        Fold([*harmful[:i], *harmful[i + 1 :]], harmless, harmful[i], select_harmless)
        for i in (range(len(harmful)) if len(harmful) > 1 else ())
    ]
    found += [
        Fold(harmful, [*harmless[:i], *harmless[i + 1 :]], select_harmful, harmless[i])
        for i in (range(len(harmless)) if len(harmless) > 1 else ())
    ]
    return found or [Fold(harmful, harmless, select_harmful, select_harmless)]


@dataclass(frozen=True, order=True)
class Standing:
    """How well a detector tells held-out prompts apart; the larger the better."""

    auroc: float
    gap: float


def standing(
    folds: Sequence[Fold[Rows]], fit: Callable[[Sequence[Rows], Sequence[Rows]], Callable[[Rows], Scores]]
) -> Standing:
    """The average over the folds.

    Raises:
        FitError: a fit failed, or a score is not finite.
    """
    found: list[Standing] = []
    for fold in folds:
        score = fit(fold.harmful, fold.harmless)
        high, low = score(fold.held_harmful), score(fold.held_harmless)
        if not (np.isfinite(high).all() and np.isfinite(low).all()):
            raise FitError("scores that are NaN or infinite")
        spread = math.sqrt((float(high.var()) + float(low.var())) / 2)
        gap = (float(high.mean()) - float(low.mean())) / spread if spread else 0.0
        found.append(Standing(auroc(high, low).value, gap))
    return Standing(*(float(np.mean(values)) for values in zip(*((s.auroc, s.gap) for s in found), strict=True)))


def best_of(standings: Mapping[int, Standing]) -> int:
    """The block of the best; of equal ones the first."""
    return max(standings, key=lambda block: (standings[block], -block))
