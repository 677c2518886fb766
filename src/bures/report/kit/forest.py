"""Forest plots: one row a thing, a dot with its interval, and a line where there is no difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bures.report.kit.charts import (
    INK,
    MUTED,
    NARROW,
    ROW_HEIGHT,
    STYLES,
    SURFACE,
    TIP,
    Spec,
    chosen,
    row_axis,
    row_labels,
    scale,
    shown,
)
from bures.report.kit.page import Key

KEYS = (
    Key("more", "refuses more", STYLES[1].colour, "circle"),
    Key("less", "refuses less", STYLES[0].colour, "square"),
    Key("chance", "may be chance", MUTED, "diamond", hollow=True),
)
"""What a difference means; "may be chance" where its adjusted p is not below 0.05."""

PLAIN = Key("plain", "change", INK, "circle")
"""For changes that are neither better nor worse by themselves."""


MIDDLE: Spec = {"value": ROW_HEIGHT / 2 + 5}
"""The encoding that sets a row's dot in its middle, below a label that may stand above it."""


@dataclass(frozen=True)
class Dot:
    """One dot: its row (up to two lines), where it is and how far its interval reaches, and what it says."""

    row: str
    series: str
    value: float
    interval: tuple[float, float]
    tip: str
    measure: str = ""


def forest(dots: Sequence[Dot], title: str, *, nothing: float, measure: str = "") -> Spec:
    """A Vega-Lite specification.

    Args:
        dots: from top to bottom; those of a row that differ in their measure are shown one at a time.
        title: of the axis.
        nothing: where there is no difference; always in sight.
        measure: which measure is shown first, where a `Choice` sets the parameter `measure`; "" where there is one.
    """
    rows = list(dict.fromkeys(dot.row for dot in dots))
    keys = KEYS if any(dot.series != PLAIN.value for dot in dots) else (PLAIN,)
    visible, keep = shown("shown", [key.value for key in keys])
    parameter, of_measure = chosen("measure", measure, "measure")
    ends = [end for dot in dots for end in dot.interval] + [nothing]
    margin = 0.06 * (max(ends) - min(ends)) or 0.05
    x: Spec = {
        "field": "value",
        "type": "quantitative",
        "title": title,
        "scale": {"domain": [min(ends) - margin, max(ends) + margin], "nice": False, "zero": False},
        "axis": {"tickCount": 5},
    }
    colour: Spec = {"field": "series", "type": "nominal", "scale": scale(keys)}
    shape: Spec = {"field": "series", "type": "nominal", "scale": scale(keys, "shape")}
    filled: Spec = {"condition": {"test": "datum.series == 'chance'", "value": SURFACE}, **colour}
    symbol: Spec = {"type": "point", "filled": True, "size": 110, "strokeWidth": 1.8, "opacity": 1}
    whole: Spec = {"y": row_axis("name", rows), "yOffset": MIDDLE, "tooltip": TIP}
    whisker: Spec = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": colour}
    return {
        "params": [NARROW, visible, *([parameter] if measure else [])],
        "width": "container",
        "height": ROW_HEIGHT * len(rows),
        "data": {"values": [_datum(dot) for dot in dots]},
        "transform": [keep, *([of_measure] if measure else [])],
        "layer": [
            {
                "data": {"values": [{"value": nothing}]},
                "mark": {"type": "rule", "color": INK, "strokeWidth": 1, "tooltip": None},
                "encoding": {"x": x},
            },
            {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {**whole, **whisker}},
            {"mark": symbol, "encoding": {**whole, "x": x, "shape": shape, "stroke": colour, "fill": filled}},
            row_labels(rows, "name"),
        ],
    }


def _datum(dot: Dot) -> Spec:
    low, high = dot.interval
    return {
        "name": dot.row,
        "series": dot.series,
        "measure": dot.measure,
        "value": dot.value,
        "low": low,
        "high": high,
        "tip": dot.tip,
    }
