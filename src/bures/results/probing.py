"""What `bures probe` measures: how well detectors of harmful prompts tell, with thresholds; no torch.

A threshold is a conformal quantile: the ceil((n + 1)(1 - a))-th smallest score of n harmless prompts that neither
fitted nor chose. A further harmless prompt, exchangeable with those, scores above it with probability at most a (Vovk,
Gammerman and Shafer 2005, proposition 2.1). That holds on average over calibration sets; `calibrated_rate` bounds the
rate for the one at hand.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import beta as _untyped_beta  # pyright: ignore

from bures.results.brief import probe_brief
from bures.results.names import RATES
from bures.results.schema import RunResult
from bures.results.stats import Measurement, Vector, auroc, finite_vector, proportion

_beta: Any = cast(Any, _untyped_beta)  # scipy ships no types


class Cutoff(BaseModel):
    """A threshold, and what it does on prompts that had no part in it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    rate: float
    """The false-positive rate asked for."""
    threshold: float
    """The score above which a prompt is flagged."""
    highest_rate: float
    """95 % upper bound (Clopper and Pearson) of its false-positive rate, over calibration sets of this size."""
    flagged_harmful: Measurement
    """Share of the harmful prompts above it, with Wilson's interval."""
    flagged_harmless: Measurement


class Told(BaseModel):
    """How well one score tells harmful from harmless prompts of a pair of sets."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    auroc: Measurement
    over_words: Measurement | None = None
    """AUROC less that of the n-gram baseline on the same prompts; None: it is that baseline."""
    cutoffs: list[Cutoff] = Field(default_factory=list)


class ProbeRow(BaseModel):
    """One row of the table: a detector at a position, at the block that the selection split chose; or a baseline."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    key: str
    detector: str
    position: str | None
    """None: a baseline, which reads the text."""
    block: int | None
    selection: float
    """AUROC that chose the block: of the held-out sources on average, or of the selection split."""
    gap: float
    """Distance of the mean scores there, in standard deviations: decides between equal AUROCs."""
    told: dict[str, Told] = Field(default_factory=dict)
    """`test`, the further pairs of sets (`transfer 1`), and the test prompts under interventions (`under RUN:ROW`)."""


class ProbeResult(RunResult):
    """Everything `bures probe` measured."""

    job: Literal["probe"] = "probe"
    chosen_by: Literal["selection", "leave-one-source-out"] = "selection"
    chosen: str | None = None
    """Key of the row that is saved as the probe."""
    pairs: dict[str, tuple[str, str]] = Field(default_factory=dict)
    """Name of a pair of sets -> the names of its harmful and of its harmless set."""
    detectors: list[ProbeRow] = Field(default_factory=list)

    def _about(self) -> str:
        return f", {len(self.detectors)} detectors, chosen {self.chosen or 'none'}"

    def _repr_html_(self) -> str:
        """The detectors on the first pair of sets, in a notebook; all text is escaped."""
        key = next((key for row in self.detectors for key in row.told), "test")
        return probe_brief(self, key, f"{self.model.get('name', '?')}: detectors of harmful prompts ({key})").html


def conformal_threshold(harmless: Vector, rate: float) -> float | None:
    """The score above which a fresh harmless prompt falls with probability at most `rate`; None: too few prompts.

    At least 1 / rate - 1 prompts are needed: 99 for 1 %, 19 for 5 %.

    Raises:
        ValueError: the scores are empty or not finite, or the rate is not between 0 and 1.
    """
    scores = np.sort(finite_vector(harmless, "scores"))
    if not 0 < rate < 1:
        raise ValueError(f"The rate must lie between 0 and 1, got {rate}.")
    place = _place(len(scores), rate)
    return None if place > len(scores) else float(scores[place - 1])


def calibrated_rate(n: int, rate: float, confidence: float = 0.95) -> float:
    """Upper bound of the false-positive rate of one conformal threshold from n prompts, at a confidence.

    With scores without ties the rate of the threshold at place k is Beta(n + 1 - k, k) over calibration sets (Vovk
    2012), whose quantile is Clopper and Pearson's bound for n - k of n above it.
    """
    place = _place(n, rate)
    return float(_beta.ppf(confidence, n + 1 - place, place)) if place <= n else 1.0


def auroc_difference(a: tuple[Vector, Vector], b: tuple[Vector, Vector]) -> Measurement:
    """AUROC of scores a less that of scores b of the same prompts, with a 95 % interval.

    The two Newcombe intervals are joined by their squares (MOVER; Zou and Donner 2008), with the correlation of the
    two AUROCs by DeLong, DeLong and Clarke-Pearson (1988): unlike DeLong's own interval it has width where both are 1.
    Simulated on normal scores it holds the difference in 95 to 99.8 % of samples, the more the nearer they are to 1
    (DeLong's: 91.5 to 97 %).

    Args:
        a: scores of the positives and of the negatives.
        b: other scores of the same, in the same order.

    Raises:
        ValueError: a sample is empty, not finite, or not as long as the other of its prompts.
    """
    first, second = auroc(*a), auroc(*b)
    shares = [_placements(*each) for each in (a, b)]
    if [len(x) for x in shares[0]] != [len(x) for x in shares[1]]:
        raise ValueError("Both scores must be of the same prompts.")
    covariance = np.zeros((2, 2))
    for side in zip(*shares, strict=True):
        covariance += np.cov(np.stack(side)) / len(side[0]) if len(side[0]) > 1 else 0.0
    scale = math.sqrt(float(covariance[0, 0] * covariance[1, 1]))
    correlation = min(1.0, max(-1.0, float(covariance[0, 1]) / scale)) if scale else 0.0

    def distance(one: float, two: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * correlation * one * two + two**2))

    value = first.value - second.value
    low = distance(first.value - first.bounds[0], second.bounds[1] - second.value)
    high = distance(first.bounds[1] - first.value, second.value - second.bounds[0])
    return Measurement(value, first.n, (max(-1.0, value - low), min(1.0, value + high)))


def _placements(positives: Vector, negatives: Vector) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each positive the share of negatives below it, of each negative the share of positives above it; ties half."""
    high, low = finite_vector(positives, "positives")[:, None], finite_vector(negatives, "negatives")[None, :]
    above = (high > low) + 0.5 * (high == low)
    return above.mean(axis=1), above.mean(axis=0)


def told(
    harmful: Vector,
    harmless: Vector,
    calibration: Vector | None = None,
    words: tuple[Vector, Vector] | None = None,
) -> Told:
    """AUROC of two samples of scores, and what conformal thresholds from a third one do to them.

    Args:
        harmful: scores.
        harmless: scores.
        calibration: scores of further harmless prompts.
        words: scores of the n-gram baseline of the same harmful and harmless prompts.
    """
    cutoffs: list[Cutoff] = []
    for rate in RATES if calibration is not None else ():
        threshold = conformal_threshold(cast(Vector, calibration), rate)
        if threshold is not None:
            above = [int((np.asarray(scores) > threshold).sum()) for scores in (harmful, harmless)]
            cutoffs.append(
                Cutoff(
                    rate=rate,
                    threshold=threshold,
                    highest_rate=calibrated_rate(len(cast(Vector, calibration)), rate),
                    flagged_harmful=proportion(above[0], len(harmful)),
                    flagged_harmless=proportion(above[1], len(harmless)),
                )
            )
    over = None if words is None else auroc_difference((harmful, harmless), words)
    return Told(auroc=auroc(harmful, harmless), over_words=over, cutoffs=cutoffs)


def _place(n: int, rate: float) -> int:
    """ceil((n + 1)(1 - rate)); a rate such as 0.05 is no binary fraction, and must not tip it over."""
    return math.ceil((n + 1) * (1 - rate) - 1e-9)
