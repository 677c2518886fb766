"""Labels of dots lie neither over each other nor over a dot, as long as there is room."""

from __future__ import annotations

import math
from itertools import combinations

import pytest

from bures.report.kit.nudged import PLACES, SYMBOL, Box, fraction, label_box, nudged

LINEAR = {"domain": [2.0, 6.0]}
ROOT = {"type": "pow", "exponent": 0.5, "domain": [-0.01, 1.0]}
LOG = {"type": "log", "domain": [1.0, 100.0]}


def test_a_lone_dot_has_its_label_at_the_upper_right() -> None:
    assert nudged([(5.0, 5.0)], ["1"]) == [PLACES[0]]


@pytest.mark.parametrize("dots", [[(50.0, 50.0)] * 4, [(50.0 + 6 * i, 50.0 + 3 * (i % 2)) for i in range(5)]])
def test_labels_of_near_dots_do_not_meet(dots: list[tuple[float, float]]) -> None:
    labels = [str(i) for i in range(1, len(dots) + 1)]
    boxes = [
        label_box(x, y, text, place) for (x, y), text, place in zip(dots, labels, nudged(dots, labels), strict=True)
    ]
    assert not any(a.meets(b) for a, b in combinations(boxes, 2))
    half = SYMBOL / 2
    symbols = [Box(x - half, y - half, x + half, y + half) for x, y in dots]
    assert not any(box.meets(symbol) for box in boxes for symbol in symbols)
    first = [label_box(x, y, text, PLACES[0]) for (x, y), text in zip(dots, labels, strict=True)]
    assert any(a.meets(b) for a, b in combinations(first, 2))  # and unmoved they would


def test_values_lie_where_the_axis_has_them() -> None:
    assert fraction(LINEAR, 3.0) == 0.25
    assert fraction(LOG, 10.0) == pytest.approx(0.5)
    assert fraction(ROOT, 0.25) == pytest.approx((0.5 + 0.1) / (1 + 0.1))
    assert math.isclose(fraction(ROOT, -0.01), 0.0, abs_tol=1e-12)
