"""Which trials of a search climb on, which are on the front of ASR and KL, and which one is recommended.

Recommended is the smallest KL among the trials that are not shown to answer fewer prompts than the best (Tango's
interval of the paired difference). Those are tried again on further prompts first, and the same is asked of all their
prompts. The front was chosen on the prompts that it is printed for; what the recommendation is worth is measured apart:
recommended by one half of the prompts, its ASR counted on the other, both ways round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bures.results.inference import halves, is_not_below
from bures.results.marks import answered
from bures.results.schema import SearchTrial
from bures.results.stats import Measurement, proportion

SURVIVORS = 1 / 3
"""Share of the trials on a rung that climb on, besides its Pareto front."""

FINALISTS = 8
"""Trials that are tried again, at most: the best, and those of the smallest KL."""

Point = tuple[float, float]


def climbs(point: Point, others: Sequence[Point]) -> bool:
    """Whether a trial goes on to the next rung: among the best third by its first value, or on the front (both min)."""
    rank = sum(other[0] < point[0] for other in others)
    return rank < max(1, SURVIVORS * (len(others) + 1)) or not _dominated(point, others)


def judge_trials(trials: Sequence[SearchTrial]) -> tuple[list[SearchTrial], SearchTrial | None]:
    """The Pareto front of the trials with long answers (by ASR), and the recommended one."""
    ran = _ran(trials)
    if not ran:
        return [], None
    front = sorted(_front(ran, [t.least for t in ran]), key=lambda t: t.least)
    again = [t for t in front if t.again]
    good = _level_in_all(again) if again else _level(front)
    return front, min(good, key=lambda t: value_of(t.kl))


def finalists(trials: Sequence[SearchTrial]) -> list[SearchTrial]:
    """The trials of the front that are not shown to answer fewer prompts than the best: it, and those of smallest KL.

    Where it stands alone too: what it answers of the further prompts flatters nobody.
    """
    front, _ = judge_trials([t.model_copy(update={"again": ""}) for t in trials])
    level = sorted((t for t in _level(front) if t.refused), key=lambda t: value_of(t.kl))
    return [*level[:-1][: FINALISTS - 1], *level[-1:]]  # on a front, the best has the largest KL


def honest_asr(trials: Sequence[SearchTrial]) -> Measurement | None:
    """ASR of what is recommended by one half of the prompts, on the other half, both ways round.

    An unfinished answer counts as none. None where no trial has its marks, or one side has no prompt.
    """
    ran = [t for t in _ran(trials) if t.refused]
    n = len(ran[0].refused) if ran else 0
    if n < 2 or any(len(t.refused) != n for t in ran):
        return None
    marks = np.array([answered(t.refused) for t in ran])
    succeeded = 0
    for here in halves(n):
        front = _front(ran, [float(x) for x in marks[:, ~here].mean(axis=1)])
        places = [i for i, t in enumerate(ran) if any(t is each for each in front)]
        best = max(places, key=lambda i: marks[i, ~here].sum())
        good = [i for i in places if is_not_below(marks[i, ~here].tolist(), marks[best, ~here].tolist())]
        chosen = min(good, key=lambda i: value_of(ran[i].kl))
        succeeded += int(marks[chosen, here].sum())
    return proportion(succeeded, n)


def value_of(measured: Any) -> float:
    """The figure alone; 0 where there is none."""
    return 0.0 if measured is None else float(measured.value)


def _ran(trials: Sequence[SearchTrial]) -> list[SearchTrial]:
    return [t for t in trials if t.rung == "long" and t.kl is not None]


def _front(ran: Sequence[SearchTrial], shares: Sequence[float]) -> list[SearchTrial]:
    """Those that no other beats on both; a sampler may try the same intervention twice, which counts once."""
    points = [(-share, value_of(t.kl)) for t, share in zip(ran, shares, strict=True)]
    best_of = {(t.candidate, point): t for t, point in zip(ran, points, strict=True) if not _dominated(point, points)}
    return list(best_of.values())


def _level(front: Sequence[SearchTrial]) -> list[SearchTrial]:
    best = max(front, key=lambda t: t.least, default=None)
    return [] if best is None else [t for t in front if _not_below(t, best)]


def _level_in_all(again: Sequence[SearchTrial]) -> list[SearchTrial]:
    """Of trials that were tried again, those that all their prompts do not show below the best of them."""
    everything = [answered(t.refused + t.again) for t in again]
    best = max(everything, key=sum)
    return [t for t, each in zip(again, everything, strict=True) if is_not_below(each, best)]


def _not_below(trial: SearchTrial, best: SearchTrial) -> bool:
    if len(trial.refused) == len(best.refused) > 0:
        return is_not_below(answered(trial.refused), answered(best.refused))
    floor = best.asr.bounds[0] if best.asr is not None else best.least
    return trial.least >= floor


def _dominated(point: Point, others: Sequence[Point]) -> bool:
    """Whether another point is no worse in both and better in one (both to be small)."""
    return any(o[0] <= point[0] and o[1] <= point[1] and o != point for o in others)
