"""ASR from a judge and labels: unbiased by the judge's error, narrow where it is good, wide where little is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bures.results.labelled import (
    FLOOR,
    RowLabels,
    allocated,
    asr_from_labels,
    difference_from_labels,
    rogan_gladen,
)
from bures.results.stats import proportion


@pytest.mark.parametrize(
    ("sizes", "n", "expected"),
    [
        ((50, 50), 20, (10, 10)),
        ((90, 10), 20, (15, FLOOR)),
        ((0, 40), 20, (0, 20)),
        ((3, 97), 60, (3, 57)),
        ((10, 10), 60, (10, 10)),
        ((20, 20), 1, (0, 1)),
        ((0, 0), 5, (0, 0)),
    ],
)
def test_labels_are_spread_over_both_parts(sizes: tuple[int, int], n: int, expected: tuple[int, int]) -> None:
    assert allocated(sizes, n) == expected


def test_no_allocation_is_larger_than_its_part() -> None:
    for first, second, n in itertools.product((0, 1, 4, 9, 40), (0, 1, 4, 9, 40), (1, 2, 7, 30, 100)):
        a, b = allocated((first, second), n)
        assert 0 <= a <= first
        assert 0 <= b <= second
        assert a + b == min(n, first + second)


def test_everything_labelled_is_the_labels_own_share() -> None:
    judged = [True] * 30 + [False] * 70
    labels = {i: i % 4 == 0 for i in range(100)}
    found = asr_from_labels(judged, labels)
    assert found.value == pytest.approx(0.25)
    assert found.n == 100
    low, high = proportion(25, 100).bounds
    assert found.bounds == pytest.approx((low, high), abs=0.02)


def test_a_judge_that_is_always_right_makes_the_interval_that_of_its_share() -> None:
    judged = [True] * 100 + [False] * 300
    labels = {i: judged[i] for i in [*range(30), *range(100, 190)]}
    low, high = asr_from_labels(judged, labels).bounds
    wilson = proportion(25, 100).bounds  # as many labels, alone
    assert low <= 0.25 <= high
    assert high - low < 0.8 * (wilson[1] - wilson[0])


def test_a_judge_that_is_always_wrong_does_no_harm() -> None:
    judged = [True] * 50 + [False] * 50
    labels = {i: not judged[i] for i in range(100)}
    assert asr_from_labels(judged, labels).value == pytest.approx(0.5)
    one_sided = asr_from_labels([True] * 40, dict.fromkeys(range(30), False))
    assert one_sided.value == 0.0
    assert one_sided.bounds[1] < 0.15


def test_unfinished_answers_widen_the_interval_to_their_bounds() -> None:
    judged, labels = [True] * 20 + [False] * 20, {i: i < 20 for i in range(40)}
    without, with_them = asr_from_labels(judged, labels), asr_from_labels(judged, labels, unfinished=10)
    assert with_them.n == 50
    assert with_them.bounds[0] == pytest.approx(without.bounds[0] * 0.8)
    assert with_them.bounds[1] == pytest.approx(without.bounds[1] * 0.8 + 0.2)


def test_what_is_missing_is_an_error() -> None:
    for judged, labels in (([], {0: True}), ([True], {}), ([True], {1: True})):
        with pytest.raises(ValueError, match=r"label"):
            asr_from_labels(judged, labels)


@pytest.mark.parametrize(("recall", "specificity"), [(0.21, 1.0), (0.71, 0.93), (0.98, 0.97)])
def test_the_interval_covers_whatever_the_judges_recall(recall: float, specificity: float) -> None:
    rng = np.random.default_rng(1)
    hits: list[bool] = []
    for asr in (0.1, 0.3, 0.5) * 130:
        success = rng.random(120) < asr
        judged = np.where(success, rng.random(120) < specificity, rng.random(120) >= recall)
        parts = [rng.permutation(np.flatnonzero(judged)), rng.permutation(np.flatnonzero(~judged))]
        sizes = allocated((len(parts[0]), len(parts[1])), 40)
        labels = {int(i): bool(success[i]) for part, k in zip(parts, sizes, strict=True) for i in part[:k]}
        low, high = asr_from_labels(judged.tolist(), labels).bounds
        hits.append(low <= asr <= high)
    assert 0.92 <= np.mean(hits) <= 0.98
    borrowed = [proportion(round(100 * (asr + (1 - asr) * (1 - recall))), 100).bounds for asr in (0.1, 0.3, 0.5)]
    if recall < 0.5:  # what the judge says alone does not cover
        assert not any(low <= asr <= high for (low, high), asr in zip(borrowed, (0.1, 0.3, 0.5), strict=True))


# Two rows -----------------------------------------------------------------------------------------------------------


def row(judged: str, said: str) -> RowLabels:
    """A row by marks: 0 a success, 1 a refusal, - unfinished; ? no label."""
    keys = [f"{i:03d}" for i in range(len(judged))]
    return RowLabels(
        {key: mark == "0" for key, mark in zip(keys, judged, strict=True) if mark != "-"},
        {key: mark == "0" for key, mark in zip(keys, said, strict=True) if mark != "?"},
        judged.count("-"),
    )


def test_a_difference_is_that_of_what_people_said_and_not_of_what_the_judge_says() -> None:
    a, b = row("0" * 100, "0" * 20 + "1" * 80), row("1" * 100, "0" * 60 + "1" * 40)
    found = difference_from_labels(a, b)
    assert (found.a.value, found.b.value, found.labels) == (0.2, 0.6, (100, 100))
    assert found.difference.value == pytest.approx(0.4)
    assert 0.2 < found.difference.bounds[0] < 0.4 < found.difference.bounds[1] < 0.6
    assert found.difference.bounds[0] < found.nearly[0] < found.nearly[1] < found.difference.bounds[1]
    assert found.p < 0.001
    mirrored = difference_from_labels(b, a)
    assert mirrored.difference.bounds == pytest.approx([-x for x in found.difference.bounds[::-1]], abs=0.01)


def test_the_interval_leaves_out_nothing_exactly_where_p_says_so() -> None:
    judged = "0" * 50 + "1" * 50
    a = row(judged, "0" * 20 + "1" * 80)
    for answered in range(20, 40):
        found = difference_from_labels(a, row(judged, "0" * answered + "1" * 60 + "?" * (40 - answered)))
        low, high = found.difference.bounds
        if abs(found.p - 0.05) > 0.005:  # the draws' own noise
            assert (found.p < 0.05) == (low > 0 or high < 0)


def test_the_judges_pairs_make_a_difference_narrow_where_it_is_right() -> None:
    a = row("0" * 50 + "1" * 50, "0" * 50 + "1" * 50)
    pairs = difference_from_labels(a, a).difference.bounds
    other = row("1" * 25 + "0" * 50 + "1" * 25, "1" * 25 + "0" * 50 + "1" * 25)
    apart = difference_from_labels(a, other).difference.bounds
    assert pairs[1] - pairs[0] < 0.7 * (apart[1] - apart[0])


def test_prompts_without_a_finished_answer_in_both_are_left_out() -> None:
    a, b = row("0-" + "1" * 38, "0?" + "1" * 38), row("-0" + "1" * 38, "?0" + "1" * 38)
    found = difference_from_labels(a, b)
    assert (found.difference.n, found.labels, found.a.value) == (38, (38, 38), 0.0)
    for one, two in ((row("0-", "0?"), row("-0", "?0")), (row("00", "??"), row("00", "00"))):
        with pytest.raises(ValueError, match="with a label in either"):
            difference_from_labels(one, two)


@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_equal_rows_are_rarely_told_apart_whatever_the_judges_recall(alike: float) -> None:
    rng, false = np.random.default_rng(4), 0
    for _ in range(150):
        common, order = rng.random(100), rng.permutation(100)
        rows: list[RowLabels] = []
        for recall in (0.95, 0.4):
            success = np.where(rng.random(100) < alike, common, rng.random(100)) < 0.3
            judged = success | (rng.random(100) >= recall)
            parts = [[i for i in order if judged[i]], [i for i in order if not judged[i]]]
            sizes = allocated((len(parts[0]), len(parts[1])), 40)
            chosen = [int(i) for part, k in zip(parts, sizes, strict=True) for i in part[:k]]
            said = {str(i): bool(success[i]) for i in chosen}
            rows.append(RowLabels({str(i): bool(judged[i]) for i in range(100)}, said))
        false += difference_from_labels(*rows).p < 0.05
    assert false / 150 <= 0.08


def test_rogan_gladen_inverts_the_judges_error() -> None:
    assert rogan_gladen(0.3 * 0.8 + 0.7 * 0.1, 0.8, 0.9) == pytest.approx(0.3)
    assert rogan_gladen(0.05, 0.8, 0.9) == pytest.approx(-0.0714, abs=1e-3)
    assert rogan_gladen(0.5, 0.5, 0.5) is None
