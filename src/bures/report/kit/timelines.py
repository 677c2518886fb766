"""Charts over time: curves of dots with their intervals, and ranges behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bures.report.kit.charts import EDGE, SURFACE, TIP, Spec, Style, scale, shown
from bures.report.kit.page import Figure, Key, Legend

RANGE = Key("range", "refusal is decided here", EDGE, "area")


@dataclass(frozen=True)
class Curve:
    """A series over time: its name in the data, what the reader sees, and how it looks."""

    name: str
    label: str
    style: Style


@dataclass(frozen=True)
class Dot:
    """One figure of a curve: when (UTC, ISO 8601), how much, its interval, and what it says."""

    curve: str
    time: str
    value: float
    interval: tuple[float, float] | None
    tip: str


@dataclass(frozen=True)
class Timeline:
    """What is drawn over time.

    Attributes:
        id: of the figure.
        title: of the figure.
        curves: what is followed.
        dots: their figures.
        axis: what is drawn, with its unit.
        note: how to read it.
        domain: of the axis; None: what the figures need.
        ranges: intervals that are drawn as broad bars behind (their value is not).
        joined: whether the dots of a curve are joined.
        apart: curves whose dots are not joined.
    """

    id: str
    title: str
    curves: Sequence[Curve]
    dots: Sequence[Dot]
    axis: str
    note: str
    domain: tuple[float, float] | None = None
    ranges: Sequence[Dot] = ()
    joined: bool = True
    apart: Sequence[str] = ()


def timeline(drawn: Timeline) -> Figure:
    """The figure."""
    keys = (
        *(Key(each.name, each.label, each.style.colour, each.style.shape, each.style.dash) for each in drawn.curves),
        *((RANGE,) if drawn.ranges else ()),
    )
    visible, keep = shown("shown", [key.value for key in keys])
    spec: Spec = {"params": [visible], "width": "container", "height": 280, "layer": _layers(drawn, keys, keep)}
    told = "; ".join(dot.tip.replace("\n", ", ") for dot in (*drawn.dots, *drawn.ranges))
    legend = Legend("shown", keys) if len(keys) > 1 else None
    return Figure(drawn.id, drawn.title, spec, f"{drawn.title}. {told}.", None, drawn.note, legend)


def _layers(drawn: Timeline, keys: Sequence[Key], keep: Spec) -> list[Spec]:
    """Ranges, intervals, lines and symbols, the last before the others."""
    x, y = _x(drawn), _y(drawn)
    colour: Spec = {"field": "series", "type": "nominal", "scale": scale(keys)}
    shape: Spec = {"field": "series", "type": "nominal", "scale": scale(keys, "shape")}
    bar: Spec = {"type": "rule", "strokeWidth": 12, "color": EDGE, "opacity": 0.4}
    between: Spec = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "tooltip": TIP}
    layers: list[Spec] = []
    if drawn.ranges:
        layers.append({"data": {"values": _data(drawn.ranges)}, "transform": [keep], "mark": bar, "encoding": between})
    here: Spec = {"data": {"values": _data(drawn.dots)}, "transform": [keep]}
    if any(dot.interval is not None for dot in drawn.dots):
        mark: Spec = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.55}
        with_bounds = [keep, {"filter": "isValid(datum.low)"}]
        layers.append({**here, "transform": with_bounds, "mark": mark, "encoding": {**between, "color": colour}})
    if drawn.joined:
        stroke: Spec = {"type": "line", "strokeWidth": 2, "tooltip": None}
        joined = [dot for dot in drawn.dots if dot.curve not in drawn.apart]
        line: Spec = {"x": x, "y": y, "color": colour}
        layers.append({**here, "data": {"values": _data(joined)}, "mark": stroke, "encoding": line})
    point: Spec = {"type": "point", "filled": True, "size": 80, "opacity": 1, "stroke": SURFACE, "strokeWidth": 1}
    at: Spec = {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": TIP}
    return [*layers, {**here, "mark": point, "encoding": at}]


def _x(drawn: Timeline) -> Spec:
    """Time; by the hour where all is of one day."""
    days = {dot.time[:10] for dot in (*drawn.dots, *drawn.ranges)}
    ticks: Spec = {"tickCount": 5, "format": "%d %b %Y"} if len(days) > 1 else {"tickCount": 4, "format": "%d %b %H:%M"}
    return {
        "field": "time",
        "type": "temporal",
        "title": None,
        "scale": {"type": "utc", "padding": 24},
        "axis": {**ticks, "labelOverlap": True, "labelFlush": True},
    }


def _y(drawn: Timeline) -> Spec:
    return {
        "field": "value",
        "type": "quantitative",
        "title": drawn.axis,
        "scale": {"zero": False} if drawn.domain is None else {"domain": list(drawn.domain), "nice": False},
        "axis": {"tickCount": 5},
    }


def _data(dots: Sequence[Dot]) -> list[Spec]:
    found: list[Spec] = []
    for dot in dots:
        low, high = dot.interval or (None, None)
        found.append(
            {"series": dot.curve, "time": dot.time, "value": dot.value, "low": low, "high": high, "tip": dot.tip}
        )
    return found
