"""What may be said of two figures, of many, and after a choice: every p value and its adjustment; no torch.

Two figures on the same prompts
    paired_difference   of two shares, with Tango's score interval (1998)
    mcnemar             the test that this interval inverts: McNemar's, without continuity correction (1947)
    mcnemar_exact       the same given the number of discordant prompts, by the binomial distribution
    is_equivalent       whether two shares are shown to lie within a margin of each other (two one-sided tests)
    is_not_below        whether one of two is not shown to succeed on fewer of the prompts
Many of them
    holm                p values adjusted for their number (Holm 1979)
    over_looks          a p value adjusted for the looks that were taken at growing data
After a choice
    cross_fitted        chosen on one half of the prompts, measured on the other
    beats_all           a permutation test: better than every fit on shuffled labels
    first_reaching      the first of several means that reaches a part of the largest, with the range that may be it

`docs/statistics.md` has each with its error rate and its power, simulated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq as _untyped_brentq  # pyright: ignore
from scipy.stats import binomtest as _untyped_binomtest  # pyright: ignore
from scipy.stats import chi2 as _untyped_chi2  # pyright: ignore
from scipy.stats import t as _untyped_t  # pyright: ignore

from bures.results.stats import Measurement, quantile

LEVEL = 0.05
"""Adjusted p values below it are called a difference."""

SHUFFLES = 19
"""Fits on shuffled labels: the fewest with which a permutation test can reject at `LEVEL`."""

_RESAMPLES = 1000
_brentq, _chi2, _student = (cast(Any, f) for f in (_untyped_brentq, _untyped_chi2, _untyped_t))  # scipy ships no types
_binomtest = cast(Any, _untyped_binomtest)

Matrix = NDArray[np.float64]


# Two figures on the same prompts ----------------------------------------------------------------------------------


def paired_difference(only_a: int, only_b: int, n: int, confidence: float = 0.95) -> Measurement:
    """Share of successes of b less that of a on the same n prompts, with Tango's score interval (1998).

    `only_a` and `only_b` count the prompts on which only one of them succeeded. The interval holds
    the differences that the score test does not reject, so it leaves out 0 exactly when McNemar's chi-squared test
    (without continuity correction) rejects, has width when no prompt is discordant, and keeps its promise at either end
    alone, also when nearly all discordant prompts are of one kind (Newcombe's paired interval does not).

    Raises:
        ValueError: n is below 1, the counts are not counts among n, or the confidence is out of range.
    """
    if n < 1:
        raise ValueError(f"A mean over no samples is an error: n must be at least 1, got {n}.")
    if min(only_a, only_b) < 0 or only_a + only_b > n:
        raise ValueError(f"The counts {only_a} and {only_b} must be at least 0 and sum to at most n = {n}.")
    z, value = quantile(confidence), (only_b - only_a) / n

    def excess(difference: float) -> float:
        """Squared distance less z squared times the variance at the constrained maximum of the likelihood."""
        linear = (2 * n - only_b + only_a) * difference - only_a - only_b
        constant = -only_a * difference * (1 - difference)
        share = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)  # of a's alone
        return (value - difference) ** 2 - z**2 * (2 * share + difference * (1 - difference)) / n

    # at the estimate the distance vanishes (without discordant prompts the variance too): the root wanted is beyond
    lower = -1.0 if only_a == n else float(_brentq(excess, -1.0, value - 1e-12))
    upper = 1.0 if only_b == n else float(_brentq(excess, value + 1e-12, 1.0))
    return Measurement(value, n, (lower, upper))


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p value for two methods judged on the same prompts: McNemar's test without continuity correction.

    It is below a level exactly where `paired_difference` of that confidence leaves out 0: one test says both. Over all
    numbers of prompts it rejects equal methods about as often as its level says, where the exact test, which holds the
    number of discordant prompts fixed, rejects them half as often.

    Args:
        only_a: prompts on which only method a succeeded.
        only_b: prompts on which only method b succeeded.

    Raises:
        ValueError: a count is negative.
    """
    _require_counts(only_a, only_b)
    if only_a + only_b == 0:
        return 1.0
    return float(_chi2.sf((only_a - only_b) ** 2 / (only_a + only_b), 1))


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided p value of McNemar's exact test: never more often below a level than the level says, on any n.

    Args:
        only_a: prompts on which only method a succeeded.
        only_b: prompts on which only method b succeeded.

    Raises:
        ValueError: a count is negative.
    """
    _require_counts(only_a, only_b)
    return 1.0 if only_a + only_b == 0 else float(_binomtest(only_a, only_a + only_b).pvalue)


def _require_counts(only_a: int, only_b: int) -> None:
    if only_a < 0 or only_b < 0:
        raise ValueError(f"Counts cannot be negative, got {only_a} and {only_b}.")


def is_equivalent(only_a: int, only_b: int, n: int, margin: float) -> bool:
    """Whether two shares on the same n prompts are shown to differ by less than a margin, at the level 0.05.

    Both one-sided tests at 0.05 reject exactly where the 90 % interval lies within the margin (Schuirmann 1987).

    Raises:
        ValueError: as `paired_difference`, or the margin is not between 0 and 1.
    """
    if not 0 < margin < 1:
        raise ValueError(f"The margin must lie between 0 and 1, got {margin}.")
    low, high = paired_difference(only_a, only_b, n, confidence=1 - 2 * LEVEL).bounds
    return -margin < low and high < margin


def is_not_below(other: Sequence[bool], best: Sequence[bool]) -> bool:
    """Whether `other` is not shown to succeed on fewer of the same prompts than `best`: what tries them again asks.

    Raises:
        ValueError: there are no prompts, or not as many of both.
    """
    pairs = list(zip(best, other, strict=True))
    only_best, only_other = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return paired_difference(only_best, only_other, len(pairs)).bounds[1] >= 0


# Many of them -----------------------------------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for their number (Holm 1979): rejecting those below a level errs at most that often in all.

    Raises:
        ValueError: a value is not between 0 and 1.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError("Every p value must lie between 0 and 1.")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def over_looks(p: float, looks: int) -> float:
    """A p value adjusted for a number of looks: in so many, a change is falsely seen at most as often as the level.

    Raises:
        ValueError: there is no look.
    """
    if looks < 1:
        raise ValueError(f"Expected at least one look, got {looks}.")
    return min(1.0, looks * p)


# After a choice ---------------------------------------------------------------------------------------------------


def halves(n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The two halves of n prompts between which choice and measurement take turns."""
    even = np.arange(n) % 2 == 0
    return even, ~even


def cross_fitted(scores: Matrix, values: Matrix, offered: Sequence[Sequence[int]] | None = None) -> Matrix:
    """Per prompt, the value under the candidate that has the lowest mean score on the other half of the prompts.

    The mean of what comes back is that of chosen candidates, and the best of many does not flatter itself in it.

    Args:
        scores: (candidates, prompts), by which is chosen.
        values: (candidates, prompts), what is measured.
        offered: the candidates among which each half's choice is made, where not all: those that were thought of
            without looking at that half.
    """
    n = scores.shape[1]
    found = np.empty(n)
    for place, here in enumerate(halves(n)):
        among = list(range(len(scores)) if offered is None else offered[place])
        there = ~here if (~here).any() else here
        chosen = among[int(scores[among][:, there].mean(axis=1).argmin())]
        found[here] = values[chosen, here]
    return found


def beats_all(value: float, shuffled: Sequence[float]) -> bool:
    """Whether a figure beats that of every fit on shuffled labels, and there are enough of them for `LEVEL`.

    It holds where what is fitted was chosen without the labels that are shuffled.
    """
    return len(shuffled) >= SHUFFLES and value > max(shuffled)


@dataclass(frozen=True)
class Reached:
    """The first of several means that reaches a part of the largest.

    Attributes:
        first: its place, by the estimates.
        low: the first place that is not shown to fall short.
        high: the first place that is shown to reach it; the last place where none is.
    """

    first: int
    low: int
    high: int


def first_reaching(means: Matrix, largest: Matrix, part: float, *, seed: int = 0) -> Reached:
    """Where a rise has come to a part of its largest value, with a range that holds the true place in 95 of 100 cases.

    A place cannot be before `low` unless the place itself was wrongly shown to fall short (2.5 %), nor behind `high`
    unless one before it was wrongly shown to reach the part; the latter test is at 2.5 % over all places together.

    Args:
        means: (places, prompts), what each place does on every prompt.
        largest: (prompts,), what the place with the largest mean does, chosen apart from the prompts it is measured on.
        part: of the largest.
        seed: of the resamples.
    """
    gaps = means - part * largest
    count, n = gaps.shape
    mean = gaps.mean(axis=1)
    reached = np.flatnonzero(means.mean(axis=1) >= part * max(largest.mean(), means.mean(axis=1).max()))
    first = int(reached[0]) if len(reached) else count - 1
    if n < 2:
        return Reached(first, 0, count - 1)
    error = np.maximum(gaps.std(axis=1, ddof=1) / math.sqrt(n), 1e-12)
    chosen = np.random.default_rng(seed).integers(n, size=(_RESAMPLES, n))
    weights = np.stack([np.bincount(row, minlength=n) for row in chosen]) / n
    drawn = weights @ gaps.T
    spread = np.sqrt(np.maximum(weights @ (gaps**2).T - drawn**2, 0.0) / (n - 1))
    distance = (drawn - mean) / np.maximum(spread, 0.1 * error)
    over_all = max(float(np.quantile(distance.max(axis=1), 0.975)), float(_student.ppf(0.975, n - 1)))
    open_ = np.flatnonzero(mean + _student.ppf(0.975, n - 1) * error >= 0)
    shown = np.flatnonzero(mean - over_all * error >= 0)
    low, high = (int(open_[0]) if len(open_) else first), (int(shown[0]) if len(shown) else count - 1)
    return Reached(first, min(low, first), max(high, first))
