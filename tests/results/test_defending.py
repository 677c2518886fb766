"""What the marks of a defence table come to: worst case, union, the null, and pairs of models."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binomtest

from bures.results.bootstrap import bootstrap_quantile
from bures.results.defending import NULL, Attacked, Withstood, between
from bures.results.inference import holm, mcnemar_exact, paired_difference


def model(name: str, *answered: str, budget: tuple[int, ...] = ()) -> Withstood:
    """A model with attacks, each by the prompts that it gets answered; the last one is the null.

    `x` is an incoherent answer; attacks in `budget`, by number, are beyond it.
    """
    attacks: list[Attacked] = []
    for i, each in enumerate(answered):
        attacks.append(
            Attacked(
                name=f"attack {i}",
                kind=NULL if i == len(answered) - 1 else "refitted" if i else "none",
                refused="".join({"1": "0", "x": "0", "-": "-"}.get(c, "1") for c in each),
                refused_or_incoherent="".join({"1": "0", "-": "-"}.get(c, "1") for c in each),
                within_budget=i not in budget,
            )
        )
    return Withstood(name=name, run=name, model={}, attacks=attacks)


def test_worst_and_union_count_prompts_and_leave_the_null_out() -> None:
    found = model("one", "110000", "001110", "111111").figure()
    assert (found.worst, found.attacks) == ("attack 1", 1)
    assert (found.worst_asr.value, found.worst_asr.n) == (0.5, 6)
    assert found.union.value == pytest.approx(5 / 6)
    assert found.union.interval is not None


def test_an_incoherent_answer_is_no_success_and_an_unfinished_one_never_is() -> None:
    one = model("one", "000000", "1xxx-0", "000000")
    assert one.figure().union.value == pytest.approx(1 / 6)
    assert one.figure(coherent=False).union.value == pytest.approx(4 / 6)
    assert one.broken(coherent=False) == [True, True, True, True, False, False]


def test_attacks_beyond_the_budget_and_failed_ones_are_left_out() -> None:
    one = model("one", "000000", "111000", "000011", "000000", budget=(1,))
    assert one.figure().union.value == pytest.approx(5 / 6)
    inside = one.figure(within_budget=True)
    assert (inside.worst, inside.attacks, inside.union.value) == ("attack 2", 1, pytest.approx(2 / 6))
    one.attacks[2].error = "overflow"
    assert one.figure(within_budget=True).union.value == 0.0
    one.attacks[1].within_budget = None  # what is not known is no reason to leave an attack out
    assert one.figure(within_budget=True).union.value == pytest.approx(3 / 6)


def test_the_null_is_held_against_no_attack_and_is_none_where_it_failed() -> None:
    one = model("one", "1000000000", "1111111111", "0111111111")
    null = one.against_none()
    assert null is not None
    assert (null.asr.value, null.asr_none.value) == (0.9, 0.1)
    assert null.p == pytest.approx(binomtest(9, 10).pvalue)
    one.attacks[-1].error = "overflow"
    assert one.against_none() is None


def test_the_first_model_is_held_against_each_of_the_others_prompt_by_prompt() -> None:
    one = model("one", "10000000", "01000000", "00000000")
    others = [model("two", "01011110", "01111100", "11111111"), model("three", "11000000", "00000000", "00000000")]
    found = between([one, *others])
    assert [(pair.first, pair.second) for pair in found] == [("one", "two"), ("one", "three")]
    assert [(pair.only_first, pair.only_second) for pair in found] == [(1, 5), (0, 0)]
    assert found[0].p == pytest.approx(mcnemar_exact(1, 5))
    assert [pair.p_adjusted for pair in found] == holm([pair.p for pair in found])
    assert found[0].difference == paired_difference(1, 5, 8)
    assert between([one]) == []
    spent = model("four", "01011110", "11111111", "11111111", budget=(1,))
    assert (between([one, spent])[0].only_first, between([one, spent])[0].only_second) == (1, 4)
    with pytest.raises(ValueError, match="zip"):
        between([one, model("short", "10", "00", "00")])


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (0, 6), (1, 5), (7, 7), (3, 17), (40, 90)])
def test_the_exact_test_counts_the_tails_of_fair_coins(a: int, b: int) -> None:
    n, least = a + b, min(a, b)
    tail = sum(Fraction(math.comb(n, k), 2**n) for k in range(least + 1))
    assert mcnemar_exact(a, b) == pytest.approx(float(min(Fraction(1), 2 * tail)))
    assert mcnemar_exact(a, b) == mcnemar_exact(b, a)


def test_counts_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 3)


def test_a_quantile_over_parts_is_numpys_and_its_interval_holds() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.exponential(size=int(size)).tolist() for size in rng.integers(1, 9, size=40)]
    found = bootstrap_quantile(samples, 0.95)
    assert found.value == pytest.approx(float(np.quantile([x for each in samples for x in each], 0.95)))
    assert found.n == 40
    assert bootstrap_quantile([[1.0, 2.0]], 0.5).interval is None
    true, held = -math.log(0.5), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        low, high = bootstrap_quantile(list(rng.exponential(size=(40, 4))), 0.5, n_resamples=200).bounds
        held += low <= true <= high
    assert 88 <= held <= 100
    for bad in ([], [[1.0], []], [[math.nan]]):
        with pytest.raises(ValueError, match=r"error|NaN"):
            bootstrap_quantile(bad, 0.5)
