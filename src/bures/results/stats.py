"""Numbers that carry their sample size and their uncertainty; no torch.

Measurement              a value with its n and its interval
proportion               share of successes with a Wilson interval (Wilson 1927)
paired_difference        of two shares on the same prompts, with a score interval (Tango 1998)
fewest_for_bound         how many prompts it takes before none of them proves a share to be small
mcnemar_exact            two methods on the same prompts: exact McNemar test (McNemar 1947)
holm                     p values of several tests, adjusted (Holm 1979)
bootstrap_mean           mean with a percentile bootstrap interval (Efron 1979)
bootstrap_ratio_of_sums  sum of numerators over sum of denominators, resampling the pairs
bootstrap_difference     of two such ratios on the same prompts
auroc                    area under the ROC curve with a score interval (Newcombe 2006)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq as _untyped_brentq  # pyright: ignore
from scipy.stats import binomtest as _untyped_binomtest  # pyright: ignore
from scipy.stats import norm as _untyped_norm  # pyright: ignore
from scipy.stats import rankdata as _untyped_rankdata  # pyright: ignore

Vector = Sequence[float] | NDArray[Any]

# scipy ships no types
_binomtest, _rankdata = cast(Any, _untyped_binomtest), cast(Any, _untyped_rankdata)
_brentq, _norm = cast(Any, _untyped_brentq), cast(Any, _untyped_norm)
_RESAMPLED_AT_ONCE = 1 << 20  # indices drawn per step, so that memory does not grow with the sample


@dataclass(frozen=True)
class Measurement:
    """A value, the number of samples behind it and, where one was computed, its confidence interval.

    Raises:
        ValueError: n is below 1 (a mean over no samples is an error), the value is NaN, or the interval is reversed.
    """

    value: float
    n: int
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"A mean over no samples is an error: n must be at least 1, got {self.n}.")
        if math.isnan(self.value):
            raise ValueError(f"A measurement cannot be NaN (n = {self.n}).")
        if self.interval is not None and not self.interval[0] <= self.interval[1]:
            raise ValueError(f"The interval {self.interval} is reversed or NaN.")

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval; where none was computed, the value twice."""
        return self.interval or (self.value, self.value)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` reads them back."""
        return {
            "value": self.value,
            "n": self.n,
            "interval": None if self.interval is None else list(self.interval),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Measurement:
        """The inverse of `to_dict`.

        Raises:
            ValueError: a key is missing or unknown, or the numbers are not a valid measurement.
        """
        if set(data) != {"value", "n", "interval"}:
            raise ValueError(f"A measurement has the keys value, n and interval; got {sorted(data)}.")
        interval = data["interval"]
        pair = None if interval is None else (float(interval[0]), float(interval[1]))
        return Measurement(float(data["value"]), int(data["n"]), pair)


def proportion(successes: int, n: int, confidence: float = 0.95) -> Measurement:
    """successes / n with the Wilson score interval, which holds near 0 and 1 and for small n.

    Raises:
        ValueError: n is below 1, or successes is not between 0 and n.
    """
    if n < 1:
        raise ValueError(f"A mean over no samples is an error: n must be at least 1, got {n}.")
    if not 0 <= successes <= n:
        raise ValueError(f"The successes must lie between 0 and n = {n}, got {successes}.")
    bounds = _binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Measurement(successes / n, n, (float(bounds.low), float(bounds.high)))


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
    z, value = _quantile(confidence), (only_b - only_a) / n

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


def fewest_for_bound(limit: float, confidence: float = 0.95) -> int:
    """The smallest n at which 0 successes of n have a Wilson interval whose upper end is at most `limit`.

    The same n is the smallest at which `paired_difference` without a discordant prompt ends at most there.

    Raises:
        ValueError: the limit is not between 0 (exclusive) and 1, or the confidence is out of range.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"The limit must lie above 0 and be at most 1, got {limit}.")
    return max(1, math.ceil(_quantile(confidence) ** 2 * (1 - limit) / limit - 1e-9))


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


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact p value for two methods judged on the same prompts.

    Args:
        only_a: prompts on which only method a succeeded.
        only_b: prompts on which only method b succeeded.

    Returns:
        The probability, if each discordant prompt were a fair coin, of a split at least as uneven;
        1.0 when no prompt is discordant.

    Raises:
        ValueError: a count is negative.
    """
    if only_a < 0 or only_b < 0:
        raise ValueError(f"Counts cannot be negative, got {only_a} and {only_b}.")
    if only_a + only_b == 0:
        return 1.0
    return float(_binomtest(only_a, only_a + only_b, 0.5).pvalue)


def bootstrap_mean(values: Vector, *, confidence: float = 0.95, seed: int = 0, n_resamples: int = 2000) -> Measurement:
    """Mean of independent samples with a percentile bootstrap interval (no interval for a single sample).

    Raises:
        ValueError: there are no samples, a sample is not finite, or an option is out of range.
    """
    sample = _finite_vector(values, "values")

    def mean(chosen: NDArray[Any]) -> NDArray[Any]:
        return sample[chosen].mean(axis=-1)

    interval = _percentile_interval(mean, len(sample), confidence, seed, n_resamples)
    return Measurement(float(sample.mean()), len(sample), interval)


def bootstrap_ratio_of_sums(
    numerators: Vector, denominators: Vector, *, confidence: float = 0.95, seed: int = 0, n_resamples: int = 2000
) -> Measurement:
    """sum(numerators) / sum(denominators) with a percentile bootstrap interval over the pairs.

    A mean over tokens is such a ratio: numerators are the summed losses of each prompt and denominators its token
    counts. Tokens of one prompt depend on each other, so whole prompts are resampled, and n counts prompts.

    Raises:
        ValueError: no pairs, lengths that differ, a number that is not finite, a denominator that is not positive, or
            an option out of range.
    """
    n, ratio = _ratio_of_sums(numerators, denominators)
    return Measurement(float(ratio(np.arange(n))), n, _percentile_interval(ratio, n, confidence, seed, n_resamples))


def bootstrap_difference(
    a: tuple[Vector, Vector], b: tuple[Vector, Vector], *, confidence: float = 0.95, seed: int = 0
) -> Measurement:
    """sum / sum of b less sum / sum of a, with a percentile bootstrap interval that draws the same prompts for both.

    Each side holds numerators and denominators, one of each a prompt, prompts in the same order.

    Raises:
        ValueError: as `bootstrap_ratio_of_sums`, or the sides differ in length.
    """
    (n, before), (m, after) = _ratio_of_sums(*a), _ratio_of_sums(*b)
    if n != m:
        raise ValueError(f"a and b differ in length: {n} and {m}.")

    def difference(chosen: NDArray[Any]) -> NDArray[Any]:
        return after(chosen) - before(chosen)

    value = float(difference(np.arange(n)[None])[0])
    return Measurement(value, n, _percentile_interval(difference, n, confidence, seed, n_resamples=2000))


def auroc(positives: Vector, negatives: Vector, *, confidence: float = 0.95) -> Measurement:
    """Probability that a positive scores higher than a negative (ties count half), n prompts of both kinds.

    The interval is Newcombe's score interval (2006, part 2, method 5): it needs no normality and has width at 0 and 1.

    Raises:
        ValueError: a side is empty or not finite, or the confidence is out of range.
    """
    high, low, z = _finite_vector(positives, "positives"), _finite_vector(negatives, "negatives"), _quantile(confidence)
    m, n = len(high), len(low)
    ranks = _rankdata(np.concatenate([high, low]))
    value = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    size = (m + n) / 2 - 1

    def excess(theta: float) -> float:
        spread = theta * (1 - theta) * (1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (m * n)
        return abs(value - theta) - z * math.sqrt(spread)

    # at 0 and 1 the spread vanishes with the excess: the root wanted is the other one
    lower = 0.0 if value == 0 else float(_brentq(excess, 0.0, value - 1e-12))
    upper = 1.0 if value == 1 else float(_brentq(excess, value + 1e-12, 1.0))
    return Measurement(value, m + n, (lower, upper))


def _quantile(confidence: float) -> float:
    """How many standard deviations a two-sided interval reaches."""
    if not 0 < confidence < 1:
        raise ValueError(f"The confidence must lie between 0 and 1, got {confidence}.")
    return float(_norm.ppf((1 + confidence) / 2))


def _finite_vector(values: Vector, name: str) -> NDArray[Any]:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"The {name} must be one-dimensional, got shape {vector.shape}.")
    if len(vector) < 1:
        raise ValueError(f"A mean over no samples is an error: the {name} are empty.")
    if not np.isfinite(vector).all():
        raise ValueError(f"The {name} have NaN or infinite entries.")
    return vector


def _ratio_of_sums(numerators: Vector, denominators: Vector) -> tuple[int, Callable[[NDArray[Any]], NDArray[Any]]]:
    """How many pairs there are, and the statistic of resampled indices (resamples, n)."""
    top, bottom = _finite_vector(numerators, "numerators"), _finite_vector(denominators, "denominators")
    if len(top) != len(bottom):
        raise ValueError(f"Numerators and denominators differ in length: {len(top)} and {len(bottom)}.")
    if (bottom <= 0).any():
        raise ValueError("Every denominator must be above 0.")
    return len(top), lambda chosen: top[chosen].sum(axis=-1) / bottom[chosen].sum(axis=-1)


def _percentile_interval(
    statistic: Callable[[NDArray[Any]], NDArray[Any]], n: int, confidence: float, seed: int, n_resamples: int
) -> tuple[float, float] | None:
    """Percentiles of `statistic` over resampled indices (resamples, n); None when n is 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"The confidence must lie between 0 and 1, got {confidence}.")
    if n_resamples < 1:
        raise ValueError(f"At least one resample is needed, got {n_resamples}.")
    if n == 1:
        return None
    rng = np.random.default_rng(seed)
    step = max(1, _RESAMPLED_AT_ONCE // n)
    sizes = [min(step, n_resamples - start) for start in range(0, n_resamples, step)]
    draws = np.concatenate([statistic(rng.integers(n, size=(size, n))) for size in sizes])
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)
