"""Rows of one audit against each other: what is adjusted, and what a row costs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bures.results.inference import holm, mcnemar, paired_difference
from bures.results.row_comparisons import between_rows, perplexity_over
from helpers.invented_audits import marks, row

N = 60


def test_the_family_named_in_advance_is_adjusted_and_the_rest_is_counted() -> None:
    rows = [
        row("none", marks(50, N)),
        row("rfa-1", marks(20, N)),
        row("rfa-all", marks(12, N)),
        row("act-1", marks(8, N), method="act"),
    ]
    found = {(c.a, c.b): c for c in between_rows(rows) if c.judge == "arditi"}
    assert len(found) == 6
    assert found["rfa-all", "act-1"].p_adjusted is None
    family = [c for pair, c in found.items() if pair != ("rfa-all", "act-1")]
    assert [c.p_adjusted for c in family] == pytest.approx(holm([c.p for c in family]))
    one = found["none", "rfa-1"]
    assert (one.only_a, one.only_b, one.p) == (0, 30, mcnemar(0, 30))
    assert one.difference == paired_difference(0, 30, N)


def test_unfinished_answers_are_left_out_of_a_pair() -> None:
    a, b = row("none", "1" * 9 + "-"), row("rfa-1", "-" + "0" * 9)
    (found,) = [c for c in between_rows([a, b]) if c.judge == "arditi"]
    assert found.difference is not None
    assert (found.only_b, found.difference.n) == (8, 8)
    assert between_rows([row("none", "-" * 5), row("rfa-1", "0" * 5)]) == []


def test_the_perplexity_ratio_has_the_interval_of_its_answers() -> None:
    rng = np.random.default_rng(0)
    own = rng.uniform(1, 3, size=40)  # answers differ far more from each other than from themselves
    moved = own + rng.normal(0.05, 0.02, size=40)
    tokens = [int(n) for n in rng.integers(5, 60, size=40)]
    rows = [row("none", marks(1, 40), nll=own.tolist()), row("rfa-1", marks(1, 40), nll=moved.tolist())]
    found = perplexity_over(rows[1], rows[0], tokens)
    assert found is not None
    assert found.value == pytest.approx(math.exp(np.average(moved - own, weights=tokens)))
    assert 1.03 < found.bounds[0] < found.value < found.bounds[1] < 1.07
    assert perplexity_over(rows[1], rows[0], tokens[1:]) is None
