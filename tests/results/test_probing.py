"""Conformal thresholds keep their rate, and the bound beside them keeps its confidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from bures.results.probing import RATES, calibrated_rate, conformal_threshold, told


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


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_that_is_none_is_an_error(rate: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        conformal_threshold([0.0], rate)
    with pytest.raises(ValueError, match="empty"):
        conformal_threshold([], 0.05)
