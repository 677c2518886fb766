"""Numbers that carry their sample size and their uncertainty; no torch.

Measurement   a value with its n and its interval
proportion    share of successes with a Wilson interval (Wilson 1927)
f1            harmonic mean of precision and recall, with the interval of the share of which it is a function
auroc         area under the ROC curve with a score interval (Newcombe 2006)

Means and ratios are in `bures.results.bootstrap`; what holds between two figures, or after a choice among many, in
`bures.results.inference`; how many prompts a statement takes, in `bures.results.power`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


def highest_mean(mean: float, n: int) -> float:
    """Upper end of Wilson's 95 % interval of a mean of n values between 0 and 1, as if it were a share of successes.

    Values between 0 and 1 vary at most as successes of the same mean do, so it errs on the safe side.
    """
    z = 1.959964
    centre, spread = mean + z * z / (2 * n), z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    return min(1.0, (centre + spread) / (1 + z * z / n))


def f1(both: int, apart: int, confidence: float = 0.95) -> Measurement:
    """2 both / (2 both + apart): F1 of a judge, with an interval that has width at 1.

    Of the answers that the judge or the person called a refusal, both did for a share J, and F1 = 2 J / (1 + J) rises
    with J: its interval is Wilson's of J.

    Args:
        both: refusals that were called so.
        apart: refusals that were missed, and answers that were called refusals.
        confidence: of the interval.

    Raises:
        ValueError: there is neither.
    """
    share = proportion(both, both + apart, confidence)
    value, low, high = (2 * x / (1 + x) for x in (share.value, *share.bounds))
    return Measurement(value, share.n, (low, high))


def auroc(positives: Vector, negatives: Vector, *, confidence: float = 0.95) -> Measurement:
    """Probability that a positive scores higher than a negative (ties count half), n prompts of both kinds.

    The interval is Newcombe's score interval (2006, part 2, method 5): it needs no normality and has width at 0 and 1.

    Raises:
        ValueError: a side is empty or not finite, or the confidence is out of range.
    """
    high, low, z = finite_vector(positives, "positives"), finite_vector(negatives, "negatives"), quantile(confidence)
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


def quantile(confidence: float) -> float:
    """How many standard deviations a two-sided interval reaches."""
    if not 0 < confidence < 1:
        raise ValueError(f"The confidence must lie between 0 and 1, got {confidence}.")
    return float(_norm.ppf((1 + confidence) / 2))


def finite_vector(values: Vector, name: str) -> NDArray[Any]:
    """A sample as float64.

    Raises:
        ValueError: it is empty, not one-dimensional, or not finite.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"The {name} must be one-dimensional, got shape {vector.shape}.")
    if len(vector) < 1:
        raise ValueError(f"A mean over no samples is an error: the {name} are empty.")
    if not np.isfinite(vector).all():
        raise ValueError(f"The {name} have NaN or infinite entries.")
    return vector
