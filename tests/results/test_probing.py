"""Conformal thresholds keep their rate, and the bound beside them keeps its confidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bures.results.names import RATES
from bures.results.probing import auroc_difference, calibrated_rate, conformal_threshold, told


@pytest.mark.parametrize(("n", "rate", "place"), [(99, 0.01, 99), (19, 0.05, 19), (300, 0.01, 298), (300, 0.05, 286)])
def test_the_threshold_is_the_score_at_the_conformal_place(n: int, rate: float, place: int) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert conformal_threshold(scores, rate) == place == math.ceil(round((n + 1) * (1 - rate), 6))


@pytest.mark.parametrize(("n", "rate"), [(98, 0.01), (18, 0.05), (1, 0.05)])
def test_too_few_prompts_give_no_threshold(n: int, rate: float) -> None:
    assert conformal_threshold(np.arange(n), rate) is None
    assert calibrated_rate(n, rate) == 1.0


@pytest.mark.parametrize(("n", "rate"), [(99, 0.01), (40, 0.05), (250, 0.05)])
def test_the_rate_is_kept_on_average_and_its_bound_in_95_of_100_calibrations(n: int, rate: float) -> None:
    """Scores are uniform, so the false-positive rate of a threshold t is 1 - t exactly."""
    random = np.random.default_rng(1)
    found = [conformal_threshold(random.random(n), rate) for _ in range(4000)]
    rates = np.array([1 - threshold for threshold in found if threshold is not None])
    assert len(rates) == 4000
    assert rates.mean() <= rate + 3 * rates.std() / 4000**0.5
    assert rates.mean() > rate - 1 / (n + 1) - 3 * rates.std() / 4000**0.5
    assert (rates <= calibrated_rate(n, rate)).mean() == pytest.approx(0.95, abs=0.015)


def test_the_bound_is_clopper_and_pearsons() -> None:
    for n, rate, above in ((99, 0.01, 0), (300, 0.05, 14)):
        exact = scipy.stats.binomtest(above, n).proportion_ci(confidence_level=0.90, method="exact").high
        assert calibrated_rate(n, rate) == pytest.approx(exact, rel=1e-6)


def test_what_is_told_of_two_samples() -> None:
    random = np.random.default_rng(2)
    high, low, others = random.normal(1.5, 1, 60), random.normal(0, 1, 80), random.normal(0, 1, 120)
    found = told(high, low, others)
    assert found.auroc.value == pytest.approx(roc_auc_score(np.repeat([1, 0], [60, 80]), [*high, *low]))
    assert [cutoff.rate for cutoff in found.cutoffs] == list(RATES)
    for cutoff in found.cutoffs:
        assert cutoff.flagged_harmful.value == np.mean(high > cutoff.threshold)
        assert cutoff.flagged_harmless.value == np.mean(low > cutoff.threshold)
    assert [cutoff.rate for cutoff in told(high, low, others[:50]).cutoffs] == [0.05]
    assert told(high, low).cutoffs == []


# Against the words --------------------------------------------------------------------------------------------------

Scores = tuple[NDArray[np.float64], NDArray[np.float64]]


def drawn(
    random: np.random.Generator, gaps: tuple[float, float], shared: float, m: int, n: int
) -> tuple[Scores, Scores]:
    """Two scores of the same prompts: normal, with a correlation."""
    covariance = [[1.0, shared], [shared, 1.0]]
    high, low = random.multivariate_normal(gaps, covariance, m), random.multivariate_normal([0, 0], covariance, n)
    return (high[:, 0], low[:, 0]), (high[:, 1], low[:, 1])


@pytest.mark.parametrize(
    ("gaps", "shared", "m", "n", "most"),
    [
        ((1.0, 1.0), 0.0, 40, 60, 0.98),
        ((1.5, 0.7), 0.7, 40, 40, 0.99),
        ((3.0, 2.5), 0.5, 60, 60, 1.0),  # near 1 it errs on the safe side, as Newcombe's intervals do
        ((2.0, 2.0), 0.9, 100, 30, 1.0),
    ],
)
def test_the_interval_of_a_difference_holds_it(
    gaps: tuple[float, float], shared: float, m: int, n: int, most: float
) -> None:
    """The AUROC of normal scores at a distance of g is Phi(g / sqrt 2)."""
    random = np.random.default_rng(3)
    truth = float(np.subtract(*scipy.stats.norm.cdf(np.array(gaps) / 2**0.5)))
    held = 0
    for _ in range(600):
        low, high = auroc_difference(*drawn(random, gaps, shared, m, n)).bounds
        held += low <= truth <= high
    assert 0.93 <= held / 600 <= most


def test_scores_that_share_more_give_a_narrower_interval() -> None:
    random = np.random.default_rng(4)
    widths = [np.ptp(auroc_difference(*drawn(random, (1.5, 1.5), shared, 200, 200)).bounds) for shared in (0.0, 0.95)]
    assert widths[1] < 0.6 * widths[0]


def test_two_that_tell_all_apart_differ_by_nothing_with_a_width() -> None:
    perfect = (np.arange(5.0, 15), np.arange(-10.0, 0))
    found = auroc_difference(perfect, perfect)
    assert found.value == 0
    assert found.bounds[0] < -0.1 < 0.1 < found.bounds[1]
    with pytest.raises(ValueError, match="same prompts"):
        auroc_difference(perfect, (perfect[0][1:], perfect[1]))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_that_is_none_is_an_error(rate: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        conformal_threshold([0.0], rate)
    with pytest.raises(ValueError, match="empty"):
        conformal_threshold([], 0.05)
