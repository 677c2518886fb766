"""Means and ratios of sums with bootstrap-t intervals over prompts; no torch.

bootstrap_mean           mean of independent samples
bootstrap_ratio_of_sums  sum of numerators over sum of denominators, resampling the pairs
bootstrap_difference     of two such ratios on the same prompts
bootstrap_quantile       a quantile over the parts of samples, resampling the samples
exponential              e to the power of a measurement: a perplexity, or a ratio of two

Every resample's distance from the estimate is measured in its own standard error (Efron and Tibshirani 1993, chapter
12), and on logarithms where no numerator is negative: costs of prompts have heavy tails, and percentiles of the
resampled value end too low there (`docs/statistics.md` has both simulated). A few dozen costs do not show their tail:
where samples are said to be skewed, the upper end is that of Cox's interval of a log-normal mean (Zhou and Gao 1997) if
that is higher, the spread of the logarithms being that of the larger half (small costs may be as small as they like),
and at most doubled. Below eight samples standard errors of resamples mean nothing; there the interval is that of
percentiles, widened as Student's t is to the normal (Hesterberg 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm as _untyped_norm  # pyright: ignore
from scipy.stats import t as _untyped_t  # pyright: ignore

from bures.results.stats import Measurement, finite_vector

Vector = Sequence[float] | NDArray[Any]

FEWEST_FOR_T = 8
"""Samples from which resamples are measured in their own standard errors."""

_norm, _student = cast(Any, _untyped_norm), cast(Any, _untyped_t)  # scipy ships no types
_RESAMPLED_AT_ONCE = 1 << 20  # indices drawn per step, so that memory does not grow with the sample
_LARGEST_EXPONENT = 700.0  # exp of more is infinite, which JSON cannot hold


@dataclass(frozen=True)
class Resampling:
    """How an interval is drawn.

    Attributes:
        confidence: of the interval.
        seed: of the resamples.
        n_resamples: how many.
        within: what the figure can be at all; the interval is cut there.

    Raises:
        ValueError: the confidence or the number of resamples is out of range.
    """

    confidence: float = 0.95
    seed: int = 0
    n_resamples: int = 2000
    within: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"The confidence must lie between 0 and 1, got {self.confidence}.")
        if self.n_resamples < 1:
            raise ValueError(f"At least one resample is needed, got {self.n_resamples}.")


def bootstrap_mean(
    values: Vector,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 2000,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Measurement:
    """Mean of independent samples with a bootstrap interval (no interval for a single sample).

    Args:
        values: the samples.
        confidence: of the interval.
        seed: of the resamples.
        n_resamples: how many.
        within: what the mean can be at all: (0, 1) for probabilities.

    Raises:
        ValueError: there are no samples, a sample is not finite, or an option is out of range.
    """
    sample = finite_vector(values, "values")
    return _measured([(sample, np.ones(len(sample)))], Resampling(confidence, seed, n_resamples, within))


def bootstrap_ratio_of_sums(
    numerators: Vector,
    denominators: Vector,
    *,
    seed: int = 0,
    within: tuple[float, float] = (-math.inf, math.inf),
    skewed: bool = False,
) -> Measurement:
    """sum(numerators) / sum(denominators) with a 95 % bootstrap interval over the pairs.

    A mean over tokens is such a ratio: numerators are the summed losses of each prompt and denominators its token
    counts. Tokens of one prompt depend on each other, so whole prompts are resampled, and n counts prompts.

    Args:
        numerators: one a prompt.
        denominators: one a prompt, above 0.
        seed: of the resamples.
        within: what the ratio can be at all.
        skewed: whether the ratios are costs, whose tail is longer than the sample shows.

    Raises:
        ValueError: no pairs, lengths that differ, a number that is not finite, or a denominator that is not positive.
    """
    pairs = _pairs(numerators, denominators)
    found = _measured([pairs], Resampling(seed=seed, within=within))
    top, bottom = pairs
    if not skewed or found.interval is None or found.n < FEWEST_FOR_T or (top < 0).any():
        return found
    low, high = found.interval
    return Measurement(
        found.value, found.n, (low, min(max(high, min(_of_the_tail(top / bottom), 2 * high)), within[1]))
    )


def bootstrap_difference(a: tuple[Vector, Vector], b: tuple[Vector, Vector], *, seed: int = 0) -> Measurement:
    """sum / sum of b less sum / sum of a, with a 95 % bootstrap interval that draws the same prompts for both.

    Each side holds numerators and denominators, one of each a prompt, prompts in the same order.

    Raises:
        ValueError: as `bootstrap_ratio_of_sums`, or the sides differ in length.
    """
    before, after = _pairs(*a), _pairs(*b)
    if len(before[0]) != len(after[0]):
        raise ValueError(f"a and b differ in length: {len(before[0])} and {len(after[0])}.")
    return _measured([after, before], Resampling(seed=seed))


def bootstrap_quantile(samples: Sequence[Vector], at: float, *, seed: int = 0, n_resamples: int = 1000) -> Measurement:
    """A quantile over all parts of all samples, with a 95 % percentile interval that resamples whole samples.

    Tokens of one answer depend on each other, so answers are resampled, and n counts them (no interval for one).

    Args:
        samples: the parts of each, of any number but none.
        at: which quantile, between 0 and 1.
        seed: of the resamples.
        n_resamples: how many.

    Raises:
        ValueError: there are no samples, one is empty or holds a number that is not finite.
    """
    parts = [finite_vector(each, "a sample") for each in samples]
    if not parts:
        raise ValueError("A quantile over no samples is an error: expected at least one.")
    value, n = float(np.quantile(np.concatenate(parts), at)), len(parts)
    if n == 1:
        return Measurement(value, n)
    rng = np.random.default_rng(seed)
    drawn = [np.quantile(np.concatenate([parts[i] for i in rng.integers(n, size=n)]), at) for _ in range(n_resamples)]
    low, high = (float(x) for x in np.quantile(drawn, [0.025, 0.975]))
    return Measurement(value, n, (min(low, value), max(high, value)))


def exponential(m: Measurement) -> Measurement:
    """e to the power of the figure and of both ends of its interval."""
    value, low, high = (math.exp(min(x, _LARGEST_EXPONENT)) for x in (m.value, *m.bounds))
    return Measurement(value, m.n, None if m.interval is None else (low, high))


def _of_the_tail(costs: NDArray[Any]) -> float:
    """Upper end of Cox's 95 % interval of a log-normal mean, whose spread is that of the larger half of the costs."""
    n, half = len(costs), len(costs) // 2
    middle = float(np.median(costs))
    if middle <= 0:
        return 0.0
    spread = float((np.log(np.sort(costs)[n - half :] / middle) ** 2).mean())
    reach = float(_student.ppf(0.975, n - 1)) * math.sqrt(spread / n + spread**2 / (2 * half))
    return math.exp(min(math.log(middle) + spread / 2 + reach, _LARGEST_EXPONENT))


_Pairs = tuple[NDArray[Any], NDArray[Any]]


def _pairs(numerators: Vector, denominators: Vector) -> _Pairs:
    top, bottom = finite_vector(numerators, "numerators"), finite_vector(denominators, "denominators")
    if len(top) != len(bottom):
        raise ValueError(f"Numerators and denominators differ in length: {len(top)} and {len(bottom)}.")
    if (bottom <= 0).any():
        raise ValueError("Every denominator must be above 0.")
    return top, bottom


def _measured(sides: Sequence[_Pairs], how: Resampling) -> Measurement:
    """The ratio of the only side, or that of the first less that of the second, with its interval."""
    n, logs = len(sides[0][0]), len(sides) == 1 and bool((sides[0][0] >= 0).all() and sides[0][0].any())
    value, error = (float(x[0]) for x in _estimated(sides, np.arange(n)[None]))
    if n == 1:
        return Measurement(value, n)
    rng, step = np.random.default_rng(how.seed), max(1, _RESAMPLED_AT_ONCE // n)
    sizes = [min(step, how.n_resamples - start) for start in range(0, how.n_resamples, step)]
    drawn = [_estimated(sides, rng.integers(n, size=(size, n))) for size in sizes]
    values, errors = (np.concatenate(part) for part in zip(*drawn, strict=True))
    if n < FEWEST_FOR_T or error <= 1e-12 * abs(value):
        low, high = _percentiles(values, n, how.confidence)
    else:
        low, high = _studentised((value, error), (values, errors), how.confidence, logs=logs)
    low, high = (min(max(x, how.within[0]), how.within[1]) for x in (min(low, value), max(high, value)))
    return Measurement(value, n, (low, high))


def _estimated(sides: Sequence[_Pairs], chosen: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The statistic of resampled indices (resamples, n), and its linearised standard error."""
    n = chosen.shape[1]
    value, influence = np.zeros(len(chosen)), np.zeros(chosen.shape)
    for sign, (top, bottom) in zip((1.0, -1.0), sides, strict=False):
        above, below = top[chosen], bottom[chosen]
        whole = below.sum(axis=1)
        ratio = above.sum(axis=1) / whole
        value += sign * ratio
        influence += sign * (above - ratio[:, None] * below) / whole[:, None]
    return value, np.sqrt((influence**2).sum(axis=1) * n / max(1, n - 1))


def _percentiles(values: NDArray[Any], n: int, confidence: float) -> tuple[float, float]:
    tail = float(_norm.cdf(-math.sqrt(n / (n - 1)) * _student.ppf((1 + confidence) / 2, n - 1)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _studentised(
    found: tuple[float, float], drawn: tuple[NDArray[Any], NDArray[Any]], confidence: float, *, logs: bool
) -> tuple[float, float]:
    """Ends of the interval from (value, standard error) of the sample and of its resamples."""
    (value, error), (values, errors) = found, drawn
    usable = errors > 1e-9 * error
    values, errors = values[usable], errors[usable]
    distance = (np.log(values) - math.log(value)) / (errors / values) if logs else (values - value) / errors
    tail = (1 - confidence) / 2
    low, high = (float(x) for x in np.quantile(distance, [1 - tail, tail]))
    if logs:
        with_room = (min(-x * error / value, _LARGEST_EXPONENT) for x in (low, high))
        ends = [value * math.exp(x) for x in with_room]
        return ends[0], ends[1]
    return value - low * error, value - high * error
