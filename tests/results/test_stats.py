"""Intervals and tests against their closed forms and against enumeration."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from bures.results.bootstrap import bootstrap_difference, bootstrap_mean, bootstrap_ratio_of_sums
from bures.results.inference import holm, mcnemar, paired_difference
from bures.results.power import fewest_for_bound
from bures.results.stats import Measurement, auroc, proportion


def wilson_by_hand(successes: int, n: int, confidence: float) -> tuple[float, float]:
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, denominator = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / denominator
    half = z / denominator * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return centre - half, centre + half


@given(n=st.integers(1, 500), data=st.data(), confidence=st.sampled_from([0.8, 0.95, 0.99]))
@settings(deadline=None, max_examples=60)
def test_proportion_is_wilsons(n: int, data: st.DataObject, confidence: float) -> None:
    successes = data.draw(st.integers(0, n))
    measured = proportion(successes, n, confidence)
    assert (measured.value, measured.n) == (successes / n, n)
    assert measured.interval == pytest.approx(wilson_by_hand(successes, n, confidence), abs=1e-9)


def test_wilson_interval_of_none_and_all_is_not_empty() -> None:
    none, every = proportion(0, 10), proportion(10, 10)
    assert none.interval is not None
    assert every.interval is not None
    assert none.interval[0] == pytest.approx(0.0, abs=1e-12)
    assert none.interval[1] == pytest.approx(1 - every.interval[0])
    assert none.interval[1] > 0.25


@given(n=st.integers(1, 300), data=st.data())
@settings(deadline=None, max_examples=80)
def test_mcnemar_says_what_the_interval_of_the_difference_says(n: int, data: st.DataObject) -> None:
    only_a = data.draw(st.integers(0, n))
    only_b = data.draw(st.integers(0, n - only_a))
    p = mcnemar(only_a, only_b)
    assert p == mcnemar(only_b, only_a)
    for level in (0.05, 0.01):
        low, high = paired_difference(only_a, only_b, n, confidence=1 - level).bounds
        assert (low > 0 or high < 0) == (p < level)


def test_mcnemar_of_published_and_of_impossible_counts() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(59, 6) == pytest.approx(4.9e-11, rel=0.02)  # chi-squared 43.2, Fagerland et al. (2013) say < 0.001
    assert mcnemar(1, 7) == pytest.approx(0.0339, abs=1e-4)  # the same: airway reactivity, 0.034
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 3)


@pytest.mark.parametrize("n", [32, 100, 159])
def test_mcnemar_calls_equal_methods_different_about_as_rarely_as_it_says(n: int) -> None:
    """Exactly, over all outcomes, where up to half of the prompts are discordant."""
    for apart in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5):
        level = sum(
            math.comb(n, m) * apart**m * (1 - apart) ** (n - m) * math.comb(m, a) / 2**m
            for m in range(n + 1)
            for a in range(m + 1)
            if mcnemar(a, m - a) < 0.05
        )
        assert level <= 0.056, apart


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples is an error"):
        Measurement(0.0, 0)
    with pytest.raises(ValueError, match="no samples is an error"):
        proportion(0, 0)
    with pytest.raises(ValueError, match="no samples is an error"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="no samples is an error"):
        bootstrap_ratio_of_sums([], [])


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and n"):
        proportion(4, 3)
    with pytest.raises(ValueError, match="NaN"):
        Measurement(math.nan, 3)
    with pytest.raises(ValueError, match="reversed"):
        Measurement(0.5, 3, (0.6, 0.4))
    with pytest.raises(ValueError, match="NaN"):
        bootstrap_mean([1.0, math.nan])
    with pytest.raises(ValueError, match="one-dimensional"):
        bootstrap_mean(np.ones((2, 2)))
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_mean([1.0, 2.0], confidence=1.0)
    with pytest.raises(ValueError, match="resample"):
        bootstrap_mean([1.0, 2.0], n_resamples=0)


@pytest.mark.parametrize("measured", [proportion(3, 7), Measurement(0.1 + 0.2, 1)])
def test_measurement_round_trips_through_json(measured: Measurement) -> None:
    assert Measurement.from_dict(json.loads(json.dumps(measured.to_dict()))) == measured
    with pytest.raises(ValueError, match="keys"):
        Measurement.from_dict({"value": 0.5, "n": 2})
    with pytest.raises(dataclasses.FrozenInstanceError):
        measured.n = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_bootstrap_mean_agrees_with_the_normal_interval_of_a_large_sample() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, size=4000)
    measured = bootstrap_mean(values)
    half = 1.959964 * values.std() / math.sqrt(len(values))
    assert measured.value == values.mean()
    assert measured.n == 4000
    assert measured.interval == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 10)


def test_bootstrap_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    intervals = [bootstrap_mean(rng.exponential(1.0, size=60), n_resamples=300).interval for _ in range(200)]
    covered = sum(pair is not None and pair[0] <= 1.0 <= pair[1] for pair in intervals)
    assert 0.85 <= covered / 200 <= 0.99


def test_bootstrap_is_deterministic_in_its_seed_and_does_not_depend_on_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.arange(50.0) ** 2
    first = bootstrap_mean(values)
    assert bootstrap_mean(values) == first
    assert bootstrap_mean(values, seed=1) != first
    monkeypatch.setattr("bures.results.bootstrap._RESAMPLED_AT_ONCE", 137)
    assert bootstrap_mean(values) == first


def test_one_sample_has_no_interval_and_equal_samples_have_none_to_speak_of() -> None:
    assert bootstrap_mean([3.5]) == Measurement(3.5, 1, None)
    assert bootstrap_mean([3.5] * 9) == Measurement(3.5, 9, (3.5, 3.5))
    assert bootstrap_ratio_of_sums([3.0], [2.0]) == Measurement(1.5, 1, None)


def test_ratio_of_sums_weighs_prompts_by_their_tokens() -> None:
    losses, tokens = [10.0, 300.0], [10.0, 100.0]
    measured = bootstrap_ratio_of_sums(losses, tokens)
    assert measured.value == pytest.approx(310 / 110)
    assert measured.n == 2
    assert measured.interval == pytest.approx((1.0, 3.0))  # each prompt drawn twice in a quarter of the resamples
    assert bootstrap_mean([1.0, 3.0]).value == pytest.approx(2.0)


def test_ratio_of_sums_with_equal_denominators_is_the_mean() -> None:
    values = np.random.default_rng(3).normal(size=40)
    ratio, mean = bootstrap_ratio_of_sums(values * 7, np.full(40, 7.0)), bootstrap_mean(values)
    assert ratio.value == pytest.approx(mean.value)
    assert ratio.interval == pytest.approx(mean.interval)


def test_ratio_of_sums_refuses_what_does_not_pair_up() -> None:
    with pytest.raises(ValueError, match="length"):
        bootstrap_ratio_of_sums([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="denominator"):
        bootstrap_ratio_of_sums([1.0, 1.0], [1.0, 0.0])


def imports_torch(statement: str) -> bool:
    probe = f"import sys; {statement}; sys.exit('torch' in sys.modules)"
    return subprocess.run([sys.executable, "-c", probe], check=False).returncode == 1


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    high, low = rng.integers(0, 9, size=17) + seed, rng.integers(0, 9, size=23)  # with ties
    found = auroc(high, low)
    labels = [1] * 17 + [0] * 23
    assert found.value == pytest.approx(roc_auc_score(labels, np.concatenate([high, low])))
    assert found.n == 40
    assert found.interval is not None
    assert 0 <= found.interval[0] <= found.value <= found.interval[1] <= 1
    mirrored = auroc(low, high)
    assert mirrored.value == pytest.approx(1 - found.value)
    assert mirrored.interval == pytest.approx((1 - found.interval[1], 1 - found.interval[0]))


def test_the_interval_of_an_auroc_solves_newcombes_equation_and_has_width_at_the_ends() -> None:
    found = auroc([3.0, 4.0, 5.0, 6.0, 2.0], [1.0, 2.0, 3.0, 0.0])
    assert found.interval is not None
    for theta in found.interval:
        n_star = (5 + 4) / 2 - 1
        variance = theta * (1 - theta) * (1 + n_star * (1 - theta) / (2 - theta) + n_star * theta / (1 + theta)) / 20
        assert abs(found.value - theta) == pytest.approx(1.959964 * variance**0.5, rel=1e-5)
    perfect = auroc([5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0])
    assert perfect.value == 1.0
    assert perfect.interval is not None
    assert 0.3 < perfect.interval[0] < 0.95
    assert perfect.interval[1] == 1.0


def test_the_interval_of_an_auroc_covers() -> None:
    rng, truth, hits = np.random.default_rng(0), 0.7602499389065233, 0  # Phi(1 / sqrt 2)
    for _ in range(400):
        interval = auroc(rng.normal(1.0, 1.0, 20), rng.normal(0.0, 1.0, 20)).interval
        assert interval is not None
        hits += interval[0] <= truth <= interval[1]
    assert 0.92 <= hits / 400 <= 0.99


def test_an_auroc_needs_both_sides() -> None:
    with pytest.raises(ValueError, match="no samples"):
        auroc([], [1.0])
    with pytest.raises(ValueError, match="confidence"):
        auroc([1.0], [0.0], confidence=1.0)


def test_statistics_need_no_torch() -> None:
    assert imports_torch("import bures.transport.linalg")  # the probe can tell
    assert not imports_torch(
        "import importlib.util as u, bures.errors, pathlib as p; "
        "s = u.spec_from_file_location('stats', p.Path(bures.errors.__file__).with_name('results') / 'stats.py'); "
        "m = u.module_from_spec(s); sys.modules['stats'] = m; s.loader.exec_module(m)"
    )


# Two models on the same prompts --------------------------------------------------------------------------------------


def tango_by_search(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """The differences that the score test does not reject, the constrained likelihood maximised by brute force."""

    def rejected(difference: float) -> bool:
        # cells: only b = share + difference, only a = share; the rest agrees
        lowest, highest = max(0.0, -difference), (1 - difference) / 2
        shares = np.linspace(lowest, highest, 4001)[1:-1]
        cells = (shares + difference, shares, 1 - 2 * shares - difference)
        counts = (only_b, only_a, n - only_a - only_b)
        likelihood = sum(k * np.log(np.maximum(p, 1e-300)) for k, p in zip(counts, cells, strict=True))
        share = shares[np.argmax(likelihood)]
        variance = n * (2 * share + difference - difference**2)
        return abs(only_b - only_a - n * difference) > 1.959964 * math.sqrt(max(variance, 1e-12))

    grid = np.linspace(-0.999, 0.999, 1999)
    kept = [x for x in grid if not rejected(x)]
    return min(kept), max(kept)


@pytest.mark.parametrize(
    ("only_a", "only_b", "n", "published"),
    [
        (7, 1, 21, (-0.517, -0.026)),  # Fagerland, Lydersen and Laake (2014): airway reactivity
        (8, 16, 86, (-0.020, 0.207)),  # Agresti and Min (2005)
    ],
)
def test_a_paired_difference_has_the_published_tango_intervals(
    only_a: int, only_b: int, n: int, published: tuple[float, float]
) -> None:
    measured = paired_difference(only_a, only_b, n)
    assert measured.value == (only_b - only_a) / n
    assert measured.interval == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(0, 0, 40), (3, 9, 40), (0, 5, 12), (12, 0, 40), (20, 20, 40)])
def test_a_paired_difference_holds_what_the_score_test_does_not_reject(only_a: int, only_b: int, n: int) -> None:
    assert paired_difference(only_a, only_b, n).interval == pytest.approx(
        tango_by_search(only_a, only_b, n), abs=2.5e-3
    )


@given(n=st.integers(1, 300), data=st.data())
@settings(deadline=None, max_examples=80)
def test_a_paired_difference_mirrors_and_agrees_with_mcnemars_chi_squared(n: int, data: st.DataObject) -> None:
    only_a = data.draw(st.integers(0, n))
    only_b = data.draw(st.integers(0, n - only_a))
    low, high = paired_difference(only_a, only_b, n).interval or (0, 0)
    mirrored = paired_difference(only_b, only_a, n).interval
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)
    assert -1 <= low <= (only_b - only_a) / n <= high <= 1
    discordant = only_a + only_b
    rejects = discordant > 0 and (only_a - only_b) ** 2 / discordant > 1.9599639845**2
    assert (low > 0 or high < 0) == rejects


def test_the_upper_end_of_a_paired_difference_errs_as_rarely_as_it_says() -> None:
    """Exactly, over all outcomes of 60 prompts: a gate reads this end alone."""
    n = 60
    upper = {(a, b): (paired_difference(a, b, n).interval or (0, 0))[1] for a in range(n + 1) for b in range(n + 1 - a)}
    for only_b, only_a in [(0.05, 0.0), (0.08, 0.02), (0.05, 0.05), (0.2, 0.05), (0.3, 0.1), (0.1, 0.05)]:
        missed = 0.0
        for (a, b), end in upper.items():
            if end < only_b - only_a:
                ways = math.comb(n, a) * math.comb(n - a, b)
                missed += ways * only_a**a * only_b**b * (1 - only_a - only_b) ** (n - a - b)
        assert missed <= 0.03, (only_b, only_a)


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.1, 0.25, 0.5, 1.0])
def test_the_fewest_prompts_for_a_bound_are_found_by_counting(limit: float) -> None:
    def ends(n: int) -> list[float]:
        return [(m.interval or (0, 0))[1] for m in (proportion(0, n), paired_difference(0, 0, n))]

    n = fewest_for_bound(limit)
    assert all(end <= limit for end in ends(n))
    assert n == 1 or all(end > limit for end in ends(n - 1))


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="no samples is an error"):
        paired_difference(0, 0, 0)
    with pytest.raises(ValueError, match="sum to at most n = 3"):
        paired_difference(2, 2, 3)
    with pytest.raises(ValueError, match="at least 0"):
        paired_difference(-1, 2, 3)
    with pytest.raises(ValueError, match="confidence"):
        paired_difference(1, 1, 3, confidence=1.0)
    with pytest.raises(ValueError, match="limit"):
        fewest_for_bound(0.0)


def test_holm_adjusts_step_down_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.1])


def test_holm_rejects_a_true_hypothesis_as_rarely_as_it_says() -> None:
    rng = np.random.default_rng(4)
    rejected = sum(min(holm(list(rng.uniform(size=8)))) < 0.05 for _ in range(2000))
    assert rejected / 2000 == pytest.approx(0.05, abs=0.012)


def test_a_difference_of_ratios_pairs_the_prompts() -> None:
    rng = np.random.default_rng(5)
    tokens = rng.integers(4, 40, size=120)
    hard = rng.normal(size=120)  # what makes a prompt hard is common to both
    a, b = (hard + 1.0) * tokens, (hard + 1.1 + 0.01 * rng.normal(size=120)) * tokens
    measured = bootstrap_difference((a, tokens), (b, tokens))
    assert measured.value == pytest.approx(b.sum() / tokens.sum() - a.sum() / tokens.sum())
    assert measured.interval is not None
    assert 0.09 < measured.interval[0] < 0.1 < measured.interval[1] < 0.11  # unpaired: about +-0.25
    each = b / tokens
    ones = np.ones(120)
    assert bootstrap_difference((np.zeros(120), ones), (each, ones)).interval == pytest.approx(
        bootstrap_mean(each).interval
    )
    with pytest.raises(ValueError, match="differ in length"):
        bootstrap_difference(([1.0], [1.0]), ([1.0, 2.0], [1.0, 1.0]))


@pytest.mark.parametrize(("spread", "n"), [(1.0, 32), (1.5, 24)])
def test_the_interval_of_skewed_costs_reckons_with_a_tail_that_the_sample_does_not_show(spread: float, n: int) -> None:
    rng, true, held = np.random.default_rng(6), math.exp(spread**2 / 2), np.zeros(2)
    for _ in range(400):
        costs, tokens = rng.lognormal(0, spread, n), rng.integers(5, 60, n).astype(float)
        plain, skewed = (bootstrap_ratio_of_sums(costs * tokens, tokens, skewed=each) for each in (False, True))
        assert plain.value == skewed.value
        assert plain.bounds[0] == skewed.bounds[0]
        assert plain.bounds[1] <= skewed.bounds[1] <= 2 * plain.bounds[1]
        held += [low <= true <= high for low, high in (plain.bounds, skewed.bounds)]
    assert held[1] > held[0]
    assert held[1] / 400 > 0.895


def test_the_tail_is_that_of_cox_where_the_logarithms_are_normal_and_symmetric() -> None:
    """Quantiles of a log-normal law in place of a sample: both halves have one spread, which Cox's interval takes."""
    logs = 0.7 + 1.2 * norm.ppf((np.arange(60) + 0.5) / 60)
    spread = (logs - 0.7).var()
    reach = student.ppf(0.975, 59) * math.sqrt(spread / 60 + spread**2 / 60)
    plain, skewed = (bootstrap_ratio_of_sums(np.exp(logs), np.ones(60), skewed=each).bounds for each in (False, True))
    assert skewed[1] == pytest.approx(math.exp(0.7 + spread / 2 + reach), rel=1e-3)
    assert skewed[1] > plain[1]


def test_small_costs_without_a_tail_and_costs_that_may_be_negative_are_left_alone() -> None:
    costs = np.concatenate([np.full(20, 1e-9), np.linspace(0.9, 1.1, 30)])
    plain, skewed = (bootstrap_ratio_of_sums(costs, np.ones(50), skewed=each) for each in (False, True))
    assert skewed.bounds[1] <= 2 * plain.bounds[1] < 2.0  # the spread of all logarithms would end beyond 1e30
    for values in ([-1.0, *np.arange(1.0, 20.0)], [0.0] * 12 + [1.0] * 5, [0.0] * 9, [3.5] * 9):
        each = [bootstrap_ratio_of_sums(values, np.ones(len(values)), skewed=flag) for flag in (False, True)]
        assert each[0].bounds == pytest.approx(each[1].bounds)
