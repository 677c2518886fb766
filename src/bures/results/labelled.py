"""ASR from a judge and a person who labelled some of the answers: valid whatever the judge's error; no torch.

The judge parts the answers of a row into those it calls successes and those it calls refusals. Of both parts a random
sample is labelled, and

    ASR = w t_1 + (1 - w) t_0

with w the share that the judge calls successes and t_1, t_0 the shares of true successes in the two parts. This is the
stratified form of prediction-powered inference (Angelopoulos et al. 2023; Fisch et al. 2024): the judge only makes the
parts even, so its error cannot bias the figure, and a good judge makes the interval narrow. The interval is that of
independent Jeffreys posteriors of w, t_1 and t_0, which holds for few labels and near 0 and 1, where a normal
approximation does not; `benchmarks/labelled.py` simulates how often it covers the truth.

The difference of two audits on the same prompts has both rows' t_1 and t_0, and the judge's marks prompt by prompt: the
posterior of their four pairs is Dirichlet's. Labels are drawn by the prompts' hashes, so mostly of the same prompts on
both sides, and errors that go together make the interval wider than it need be.

Rogan-Gladen (1978) turns the judge's share into a true one by its sensitivity and specificity as they were measured on
another set. No recall carries over from set to set, so `rogan_gladen` gives a figure for each and no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bures.results.stats import Measurement

DRAWS = 20_000
PAIRED_DRAWS = 100_000
"""Of a difference, whose p value is the share of draws beyond 0: enough for one of 1e-4."""

FLOOR = 5
"""Fewest answers of either part that are labelled, where there are so many."""


Draws = NDArray[np.float64]


@dataclass(frozen=True)
class RowLabels:
    """A row of an audit, of which some answers are labelled; prompts are named by their hashes.

    Attributes:
        judged: whether the judge calls each finished answer a success.
        said: whether it is one, of those that were drawn and labelled.
        unfinished: answers that were cut before they said anything.
    """

    judged: Mapping[str, bool]
    said: Mapping[str, bool]
    unfinished: int = 0

    @property
    def asr(self) -> Measurement:
        """Its ASR with an interval that no error of the judge can bias."""
        place = {key: i for i, key in enumerate(self.judged)}
        labels = {place[key]: success for key, success in self.said.items()}
        return asr_from_labels(list(self.judged.values()), labels, unfinished=self.unfinished)

    def among(self, keys: frozenset[str]) -> RowLabels:
        """The same of these prompts alone."""
        judged, said = ({k: v for k, v in each.items() if k in keys} for each in (self.judged, self.said))
        return replace(self, judged=judged, said=said, unfinished=0)


@dataclass(frozen=True)
class LabelledDifference:
    """How far two rows are apart on the same prompts, by labels of both.

    Attributes:
        a: ASR of the first, of the prompts with a finished answer in both.
        b: of the second.
        difference: b less a, with its 95 % interval.
        nearly: the 90 % interval, by which rows are called equivalent.
        p: of no difference, two-sided.
        labels: of either row.
    """

    a: Measurement
    b: Measurement
    difference: Measurement
    nearly: tuple[float, float]
    p: float
    labels: tuple[int, int]


def allocated(sizes: tuple[int, int], n: int) -> tuple[int, int]:
    """How many of n labels each of two parts gets: by size, but at least `FLOOR` where that is possible.

    Args:
        sizes: answers of the two parts.
        n: labels; more than there are answers means all of them.
    """
    first, second = sizes
    n = min(n, first + second)
    if n == 0:
        return 0, 0
    floor = min(FLOOR, n // 2)
    wanted = max(round(n * first / (first + second)), min(floor, first))
    wanted = min(wanted, n - min(floor, second))
    wanted = min(first, max(wanted, n - second))
    return wanted, n - wanted


def asr_from_labels(
    judged: Sequence[bool], labels: Mapping[int, bool], *, unfinished: int = 0, confidence: float = 0.95, seed: int = 0
) -> Measurement:
    """ASR of a row with an interval that no error of the judge can bias.

    Args:
        judged: whether the judge calls each finished answer a success.
        labels: of some of these answers, by place, whether it is one; drawn at random within either part.
        unfinished: answers that were cut before they said anything; they may all be refusals or all successes.
        confidence: of the interval.
        seed: of the draws.

    Raises:
        ValueError: no answers, no labels, or a label of an answer that is not there.
    """
    if not judged or not labels:
        raise ValueError("An ASR from labels needs answers and at least one label.")
    if not all(0 <= i < len(judged) for i in labels):
        raise ValueError("A label belongs to an answer that is not there.")
    rng = np.random.default_rng(seed)
    n = len(judged)
    successes = sum(judged)
    share = rng.beta(successes + 0.5, n - successes + 0.5, DRAWS)
    value, drawn = _mixed(judged, labels, share, rng)
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(drawn, [tail, 1 - tail]))
    finished, total = n / (n + unfinished), n + unfinished
    low, high = min(low, value) * finished, max(high, value) * finished + unfinished / total
    return Measurement(value * finished + 0.5 * unfinished / total, total, (low, min(1.0, high)))


def _mixed(
    judged: Sequence[bool], labels: Mapping[int, bool], share: Draws, rng: np.random.Generator
) -> tuple[float, Draws]:
    """The estimate, and draws of w t_1 + (1 - w) t_0 for these draws of w."""
    value, drawn, n = 0.0, np.zeros(len(share)), len(judged)
    successes = sum(judged)
    for part, size, weight in ((True, successes, share), (False, n - successes, 1 - share)):
        said = [labels[i] for i in labels if judged[i] is part]
        value += size / n * (sum(said) / len(said) if said else 0.5)
        drawn += weight * rng.beta(sum(said) + 0.5, len(said) - sum(said) + 0.5, len(share))
    return value, drawn


def difference_from_labels(a: RowLabels, b: RowLabels, *, seed: int = 0) -> LabelledDifference:
    """ASR of b less that of a on the prompts with a finished answer in both, whatever the judge's error in either.

    Args:
        a: a row of one audit.
        b: the row of the other.
        seed: of the draws.

    Raises:
        ValueError: no such prompt, or none of those is labelled in either row.
    """
    both = frozenset(a.judged.keys() & b.judged.keys())
    a, b = a.among(both), b.among(both)
    if not (both and a.said and b.said):
        raise ValueError("A difference by labels needs prompts that both rows answered, with a label in either.")
    keys = sorted(both)
    rng = np.random.default_rng(seed)
    pairs = [(a.judged[key], b.judged[key]) for key in keys]
    cells = [(False, False), (False, True), (True, False), (True, True)]
    drawn = rng.dirichlet([pairs.count(cell) + 0.5 for cell in cells], PAIRED_DRAWS)
    values: list[float] = []
    sides: list[Draws] = []
    for row, share in ((a, drawn[:, 2] + drawn[:, 3]), (b, drawn[:, 1] + drawn[:, 3])):
        labels = {i: row.said[key] for i, key in enumerate(keys) if key in row.said}
        value, side = _mixed([row.judged[key] for key in keys], labels, share, rng)
        values.append(value)
        sides.append(side)
    value, gap = values[1] - values[0], sides[1] - sides[0]
    low, high, nearly_low, nearly_high = (float(x) for x in np.quantile(gap, [0.025, 0.975, 0.05, 0.95]))
    beyond = 1 + min(int((gap <= 0).sum()), int((gap >= 0).sum()))
    return LabelledDifference(
        a.asr,
        b.asr,
        Measurement(value, len(keys), (min(low, value), max(high, value))),
        (nearly_low, nearly_high),
        min(1.0, 2 * beyond / (PAIRED_DRAWS + 1)),
        (len(a.said), len(b.said)),
    )


def rogan_gladen(share: float, sensitivity: float, specificity: float) -> float | None:
    """The true share behind a judge's; below 0 or above 1 where the error cannot be this one here.

    Args:
        share: of the answers, what the judge says.
        sensitivity: of the true ones, the share that it finds.
        specificity: of the others, the share that it passes over.

    Returns:
        The corrected share; None where the judge is no better than chance.
    """
    gain = sensitivity + specificity - 1
    return None if gain <= 0 else (share + specificity - 1) / gain
