"""Charts over time: a line a series, dots with their intervals, and ranges behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bures.report.kit.charts import EDGE, SURFACE, TIP, Spec, Style, scale, shown
from bures.report.kit.page import Figure, Key, Legend

RANGE = Key("range", "refusal is decided here", EDGE, "area")


@dataclass(frozen=True)
class Line:
    """A series: its name in the data, what the reader sees, and how it looks."""

    name: str
    label: str
    style: Style


@dataclass(frozen=True)
class Dot:
    """One figure of a series: when (UTC, ISO 8601), how much, its interval, and what it says."""

    line: str
    time: str
    value: float
    interval: tuple[float, float] | None
    tip: str


def timeline(
    id_: str,
    title: str,
    lines: Sequence[Line],
    dots: Sequence[Dot],
    axis: str,
    *,
    note: str,
    domain: tuple[float, float] | None = None,
    ranges: Sequence[Dot] = (),
    joined: bool = True,
) -> Figure:
    """A figure of series over time.

    Args:
        id_: of the figure.
        title: of the figure.
        lines: the series.
        dots: their figures.
        axis: what is drawn, with its unit.
        note: how to read it.
        domain: of the axis; None: what the figures need.
        ranges: intervals that are drawn as broad bars behind (their value is not).
        joined: whether the dots of a series are joined.
    """
    keys = (
        *(Key(line.name, line.label, line.style.colour, line.style.shape, line.style.dash) for line in lines),
        *((RANGE,) if ranges else ()),
    )
    visible, keep = shown("shown", [key.value for key in keys])
    times = sorted({dot.time for dot in (*dots, *ranges)})
    x: Spec = {
        "field": "time",
        "type": "temporal",
        "title": None,
        "scale": {"type": "utc", "padding": 24},
        "axis": {"tickCount": 5, "labelOverlap": True, "format": "%d %b %Y", "labelFlush": True}
        if _days(times) > 1
        else {"tickCount": 4, "labelOverlap": True, "format": "%d %b %H:%M", "labelFlush": True},
    }
    y: Spec = {
        "field": "value",
        "type": "quantitative",
        "title": axis,
        "scale": {"zero": False} if domain is None else {"domain": list(domain), "nice": False},
        "axis": {"tickCount": 5},
    }
    colour: Spec = {"field": "series", "type": "nominal", "scale": scale(keys)}
    shape: Spec = {"field": "series", "type": "nominal", "scale": scale(keys, "shape")}
    bar: Spec = {"type": "rule", "strokeWidth": 12, "color": EDGE, "opacity": 0.4}
    between: Spec = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "tooltip": TIP}
    layers: list[Spec] = []
    if ranges:
        layers.append({"data": {"values": _data(ranges)}, "transform": [keep], "mark": bar, "encoding": between})
    here: Spec = {"data": {"values": _data(dots)}, "transform": [keep]}
    if any(dot.interval is not None for dot in dots):
        mark: Spec = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.55}
        with_bounds = [keep, {"filter": "isValid(datum.low)"}]
        layers.append({**here, "transform": with_bounds, "mark": mark, "encoding": {**between, "color": colour}})
    if joined:
        stroke: Spec = {"type": "line", "strokeWidth": 2, "tooltip": None}
        layers.append({**here, "mark": stroke, "encoding": {"x": x, "y": y, "color": colour}})
    point: Spec = {"type": "point", "filled": True, "size": 80, "opacity": 1, "stroke": SURFACE, "strokeWidth": 1}
    layers.append(
        {**here, "mark": point, "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": TIP}}
    )
    spec: Spec = {"params": [visible], "width": "container", "height": 280, "layer": layers}
    told = "; ".join(dot.tip.replace("\n", ", ") for dot in (*dots, *ranges))
    return Figure(id_, title, spec, f"{title}. {told}.", None, note, Legend("shown", keys) if len(keys) > 1 else None)


def _data(dots: Sequence[Dot]) -> list[Spec]:
    found: list[Spec] = []
    for dot in dots:
        low, high = dot.interval or (None, None)
        found.append(
            {"series": dot.line, "time": dot.time, "value": dot.value, "low": low, "high": high, "tip": dot.tip}
        )
    return found


def _days(times: Sequence[str]) -> int:
    return len({time[:10] for time in times})
