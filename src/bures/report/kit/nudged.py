"""Where the labels of dots go so that they do not lie over each other: a place beside each dot, the first that is free.

A chart is as wide as its column, which is not known when it is made; places are found for one of `WIDTH` pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from bures.report.kit.charts import Spec

WIDTH = 430.0
"""Pixels of a chart in a column of two."""

LETTER, LINE, SYMBOL = 7.0, 12.0, 9.0
"""Pixels of a digit, of a line of text, and of a dot."""


class Place(NamedTuple):
    """Where a label stands from its dot, in pixels, and which end of it is there."""

    dx: float
    dy: float
    align: str


PLACES = (
    Place(9, -9, "left"),
    Place(9, 11, "left"),
    Place(-9, -9, "right"),
    Place(-9, 11, "right"),
    Place(0, -16, "center"),
    Place(0, 18, "center"),
    Place(20, 0, "left"),
    Place(-20, 0, "right"),
)
"""In the order in which they are tried."""


class Box(NamedTuple):
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether two rectangles share a part."""
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)


def fraction(scale: Spec, value: float) -> float:
    """Where a value lies on an axis, from 0 to 1; `scale` is Vega-Lite's, with a domain."""
    bend = {"pow": lambda v: math.copysign(abs(v) ** 0.5, v), "log": math.log}.get(scale.get("type", ""), float)
    low, high = (bend(end) for end in scale["domain"])
    return (bend(value) - low) / (high - low)


def label_box(x: float, y: float, text: str, place: Place) -> Box:
    """The rectangle of a label beside a dot at (x, y), in pixels."""
    width = LETTER * len(text)
    left = x + place.dx - {"left": 0.0, "center": width / 2, "right": width}[place.align]
    return Box(left, y + place.dy - LINE / 2, left + width, y + place.dy + LINE / 2)


def nudged(dots: Sequence[tuple[float, float]], labels: Sequence[str]) -> list[Place]:
    """A place for each label, clear of the dots and of the labels before it; the first one where none is.

    Args:
        dots: (x, y) in pixels.
        labels: their texts.
    """
    half = SYMBOL / 2
    taken = [Box(x - half, y - half, x + half, y + half) for x, y in dots]
    found: list[Place] = []
    for (x, y), text in zip(dots, labels, strict=True):
        boxes = {place: label_box(x, y, text, place) for place in PLACES}
        free = next((p for p, box in boxes.items() if not any(box.meets(other) for other in taken)), PLACES[0])
        taken.append(boxes[free])
        found.append(free)
    return found
