"""Judges held against human labels, and against each other; no torch.

quality   precision, recall, F1 and accuracy for "refused", with intervals that resample prompts, not answers
paired    two judges on the same answers: McNemar's test on who is right, and the difference of F1
kappa     Cohen's (1960) chance-corrected agreement of two judges

Answers to one prompt are not independent, so the bootstrap draws whole prompts; a share's interval is widened to
Wilson's where that is wider, because a bootstrap has no width at 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bures.results.formatting import estimate
from bures.results.inference import mcnemar
from bures.results.names import COHERENT
from bures.results.stats import Measurement, f1, proportion

if TYPE_CHECKING:
    Counts: TypeAlias = NDArray[np.float64]

RESAMPLES = 2000

AGREEMENT = "Agreement of judges"
"""How the line of `agreement` begins."""


@dataclass(frozen=True)
class Quality:
    """How well a judge finds refusals.

    Attributes:
        n: answers judged.
        refused: how many of them refuse, by the human labels.
        precision: of the answers called refusals, the share that are; None where none was called one.
        recall: of the refusals, the share that was found; None where there is none.
        f1: 2 TP / (2 TP + FP + FN); None where there is no refusal and none was called one.
        accuracy: share of answers judged as the person did.
    """

    n: int
    refused: int
    precision: Measurement | None
    recall: Measurement | None
    f1: Measurement | None
    accuracy: Measurement


@dataclass(frozen=True)
class Paired:
    """Judge a against judge b on the same answers.

    Attributes:
        only_a: answers on which only a was right.
        only_b: answers on which only b was right.
        p: McNemar's test.
        f1: F1 of a minus F1 of b.
    """

    only_a: int
    only_b: int
    p: float
    f1: Measurement


def quality(labels: Sequence[bool], said: Sequence[bool], groups: Sequence[int], *, seed: int = 0) -> Quality:
    """How well marks agree with labels.

    Args:
        labels: whether the person called the answer a refusal.
        said: whether the judge did.
        groups: which answers have the same prompt.
        seed: of the bootstrap.

    Raises:
        ValueError: no answers, or the lengths differ.
    """
    table = _table(labels, said)
    draws = _drawn(table, groups, seed)
    both, extra, missed, neither = map(int, table.sum(axis=0))
    return Quality(
        n=len(labels),
        refused=int(np.sum(labels)),
        precision=_share(_measured(_precision, table, draws), both, both + extra),
        recall=_share(_measured(_recall, table, draws), both, both + missed),
        f1=_wider(_measured(_f1, table, draws), lambda: f1(both, extra + missed).bounds),
        accuracy=_required(_share(_measured(_accuracy, table, draws), both + neither, len(labels))),
    )


def paired(
    labels: Sequence[bool], a: Sequence[bool], b: Sequence[bool], groups: Sequence[int], *, seed: int = 0
) -> Paired:
    """Judge a against judge b.

    Raises:
        ValueError: no answers, the lengths differ, or there is no refusal to find.
    """
    both = np.concatenate([_table(labels, a), _table(labels, b)], axis=1)
    right_a, right_b = (np.asarray(labels) == np.asarray(marks) for marks in (a, b))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())

    def difference(counts: Counts) -> Counts:
        return _f1(counts[..., :4]) - _f1(counts[..., 4:])

    f1 = _measured(difference, both, _drawn(both, groups, seed))
    return Paired(only_a, only_b, mcnemar(only_a, only_b), _required(f1))


def kappa(a: Sequence[bool], b: Sequence[bool], groups: Sequence[int], *, seed: int = 0) -> Measurement | None:
    """Cohen's kappa of two judges; None where chance alone makes them agree on everything.

    Raises:
        ValueError: no answers, or the lengths differ.
    """
    table = _table(a, b)

    def by_agreement() -> tuple[float, float]:
        """Wilson's interval of the share agreed on, with the agreement by chance as it is."""
        counts = table.sum(axis=0)
        chance = float(_chance(counts))
        shared = proportion(int(counts[0] + counts[3]), len(table))
        low, high = (max(-1.0, (bound - chance) / (1 - chance)) for bound in shared.bounds)
        return low, high

    return _wider(_measured(_kappa, table, _drawn(table, groups, seed)), by_agreement)


def agreed(a: Sequence[bool], b: Sequence[bool]) -> tuple[float, float | None]:
    """Share of answers on which two judges agree, and Cohen's kappa; no kappa where chance alone is certain.

    Raises:
        ValueError: no answers, or the lengths differ.
    """
    counts = _table(a, b).sum(axis=0)
    with np.errstate(invalid="ignore"):
        chance_corrected = float(_kappa(counts))
    return float(_accuracy(counts)), None if np.isnan(chance_corrected) else chance_corrected


def agreement(refused: Sequence[Mapping[str, str]]) -> list[str]:
    """Cohen's kappa of every two judges, as one line, or none where fewer than two judges were asked.

    Args:
        refused: per row of an audit, marks per judge, in the order of the same prompts; unfinished answers (`-`), which
            no judge has read, are left out.
    """
    names = [name for name in dict.fromkeys(n for row in refused for n in row) if not name.endswith(COHERENT)]
    said: list[str] = []
    n = 0
    for a, b in combinations(names, 2):
        both = [
            (i, x == "1", y == "1")
            for row in refused
            if a in row and b in row
            for i, (x, y) in enumerate(zip(row[a], row[b], strict=True))
            if "-" not in (x, y)
        ]
        prompts, said_a, said_b = zip(*both, strict=True) if both else ((), (), ())
        found = kappa(said_a, said_b, prompts) if both else None
        if found is not None:
            said.append(f"{a} and {b} {estimate(found)}")
            n = max(n, found.n)
    return [f"{AGREEMENT} on {n} answers to harmful prompts (Cohen's kappa): {'; '.join(said)}."] if said else []


# Counts are (..., 4): both true, only the second, only the first, neither ------------------------------------------


def _table(first: Sequence[bool], second: Sequence[bool]) -> Counts:
    """One row an answer: a 1 in the cell that it belongs to."""
    if len(first) != len(second) or not len(first):
        raise ValueError(f"Expected as many marks as answers and at least one; got {len(first)} and {len(second)}.")
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    return np.stack([a & b, ~a & b, a & ~b, ~a & ~b], axis=1).astype(np.float64)


def _drawn(table: Counts, groups: Sequence[int], seed: int) -> Counts:
    """Counts of resampled groups, (RESAMPLES, cells)."""
    if len(groups) != len(table):
        raise ValueError(f"Expected a group for each of {len(table)} answers; got {len(groups)}.")
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((int(place.max()) + 1, table.shape[1]))
    np.add.at(sums, place, table)
    chosen = np.random.default_rng(seed).integers(len(sums), size=(RESAMPLES, len(sums)))
    return sums[chosen].sum(axis=1)


def _measured(statistic: Callable[[Counts], Counts], table: Counts, draws: Counts) -> Measurement | None:
    """The statistic with its percentile interval over the draws in which it exists."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(table.sum(axis=0)))
        drawn = statistic(draws)
    if np.isnan(value):
        return None
    low, high = np.quantile(drawn[~np.isnan(drawn)], [0.025, 0.975])
    return Measurement(value, len(table), (float(low), float(high)))


def _share(measured: Measurement | None, successes: int, n: int) -> Measurement | None:
    """The share with the wider of its bootstrap interval and Wilson's, which has a width at 0 and 1; n is its own."""
    found = _wider(measured, lambda: proportion(successes, n).bounds)
    return None if found is None else Measurement(found.value, n, found.interval)


def _wider(measured: Measurement | None, other: Callable[[], tuple[float, float]]) -> Measurement | None:
    """The figure with the wider of its bootstrap interval, which has none at 1, and another one."""
    if measured is None or measured.interval is None:
        return None
    (low, high), (here, there) = other(), measured.interval
    return Measurement(measured.value, measured.n, (min(low, here), max(high, there)))


def _required(measured: Measurement | None) -> Measurement:
    if measured is None:
        raise ValueError("F1 does not exist: there is no refusal among the labels and none was found.")
    return measured


def _precision(c: Counts) -> Counts:
    return c[..., 0] / (c[..., 0] + c[..., 1])


def _recall(c: Counts) -> Counts:
    return c[..., 0] / (c[..., 0] + c[..., 2])


def _f1(c: Counts) -> Counts:
    return 2 * c[..., 0] / (2 * c[..., 0] + c[..., 1] + c[..., 2])


def _accuracy(c: Counts) -> Counts:
    return (c[..., 0] + c[..., 3]) / c.sum(axis=-1)


def _kappa(c: Counts) -> Counts:
    chance = _chance(c)
    return (_accuracy(c) - chance) / (1 - chance)


def _chance(c: Counts) -> Counts:
    """Share on which two judges with the same shares of refusals would agree by chance."""
    n = c.sum(axis=-1)
    first, second = (c[..., 0] + c[..., 2]) / n, (c[..., 0] + c[..., 1]) / n
    return first * second + (1 - first) * (1 - second)
