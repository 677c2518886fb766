"""What each single-block map does to the activations, in the plane of their first two principal components."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bures.report.kit.charts import STYLES, TIP, ZOOM, Spec, scale, shown
from bures.report.kit.page import Figure, Grid, Key, Legend, Section, Table
from bures.report.words import row_title, tip
from bures.results.formatting import percent
from bures.results.records import Gaussian, Point, View
from bures.results.schema import AuditResult, Row

_STEPS = 48
_SIDES = (
    Key("harmful", "harmful", STYLES[0].colour, "circle"),
    Key("harmless", "harmless", STYLES[1].colour, "square"),
    Key("moved", "harmful, after the map", STYLES[2].colour, "triangle-up"),
)
_MOVES = Key("moves", "from before to after", "var(--muted)", "")


def ellipse(gaussian: Gaussian, deviations: int, steps: int = _STEPS) -> list[Point]:
    """The outline of a Gaussian at so many standard deviations, closed; a covariance that is not positive is cut at 0.

    With the covariance's roots l1 >= l2 and the angle a of the first axis, the outline is
    mean + deviations * (cos t sqrt(l1) axis1 + sin t sqrt(l2) axis2).
    """
    xx, xy, yy = gaussian.covariance
    middle, spread = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    long, short = (deviations * math.sqrt(max(0.0, root)) for root in (middle + spread, middle - spread))
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    turn = [2 * math.pi * i / steps for i in range(steps + 1)]
    return [
        (
            gaussian.mean[0] + long * math.cos(t) * math.cos(angle) - short * math.sin(t) * math.sin(angle),
            gaussian.mean[1] + long * math.cos(t) * math.sin(angle) + short * math.sin(t) * math.cos(angle),
        )
        for t in turn
    ]


def plane_section(result: AuditResult) -> Section | None:
    """A figure for every row that has a view; None where none has."""
    rows = [(row, row.view) for row in result.rows if row.view is not None]
    if not rows:
        return None
    figures = tuple(_figure(i, row, view) for i, (row, view) in enumerate(rows))
    return Section(
        "plane",
        "What the maps do",
        (
            (
                "Every point is a prompt, seen as the model's activation at its last token in the plane of the two "
                "directions along which activations vary most. Points are held-out prompts (the selection split); "
                "ellipses are the Gaussians fitted on the fit split, at one and two standard deviations. A map that "
                "removes refusal should carry the harmful points to where the harmless ones are."
            ),
            Grid(figures, Legend("shown", (*_SIDES, _MOVES))),
        ),
    )


def _figure(i: int, row: Row, view: View) -> Figure:
    along = [percent(share, 0) for share in view.explained]
    means = {name: g.mean for name, g in view.gaussians.items()}
    before, after = (math.dist(means[side], means["harmless"]) for side in ("harmful", "moved"))
    return Figure(
        f"plane-{i}",
        row_title(row),
        _spec(view),
        f"Activations at block {view.block} in the plane of the first two principal components, which hold "
        f"{along[0]} and {along[1]} of the variance. The mean of the harmful side is {before:.3g} from that of the "
        f"harmless side before the map, and {after:.3g} after it.{_in_all(view)}",
        _table(view),
        f"The plane holds {along[0]} + {along[1]} of the variance; the gap between the means in it goes from "
        f"{before:.3g} to {after:.3g}.",
        zoom=True,
    )


def _in_all(view: View) -> str:
    """How far held-out prompts were carried in all dimensions."""
    if view.distances is None:
        return ""
    before, after = view.distances
    away = ": away from where it should" if view.leads_away else ""
    return (
        f" In all dimensions the energy distance of the held-out harmful from the harmless prompts goes from "
        f"{before:.3g} to {after:.3g}{away}."
    )


def _spec(view: View) -> Spec:
    outlines = [
        {"series": key.value, "deviations": str(k), "x": x, "y": y, "order": j}
        for key in _SIDES
        for k in (1, 2)
        for j, (x, y) in enumerate(ellipse(view.gaussians[key.value], k))
    ]
    points = [
        {"series": key.value, "x": x, "y": y, "tip": tip(f"{key.label}, prompt {j + 1}", f"{x:.3g}, {y:.3g}")}
        for key in _SIDES
        for j, (x, y) in enumerate(view.points[key.value])
    ]
    moves = [
        {"series": "moves", "x": a[0], "y": a[1], "x2": b[0], "y2": b[1]}
        for a, b in zip(view.points["harmful"], view.points["moved"], strict=False)
    ]
    visible, keep = shown("shown", [*(key.value for key in _SIDES), "moves"])
    x, y = _axes([(float(p["x"]), float(p["y"])) for p in (*outlines, *points)])
    layers = _layers(x, y)
    data = (moves, outlines, points)
    return {
        "params": [visible],
        "width": "container",
        "height": 300,
        "layer": [
            {**layer, "data": {"values": values}, "transform": [keep]}
            for layer, values in zip(layers, data, strict=True)
        ],
    }


def _layers(x: Spec, y: Spec) -> tuple[Spec, Spec, Spec]:
    """Of the moves, the ellipses and the points."""
    series: Spec = {"field": "series", "type": "nominal"}
    colour: Spec = {**series, "scale": scale(_SIDES)}
    shape: Spec = {**series, "scale": scale(_SIDES, "shape")}
    dash: Spec = {"domain": ["1", "2"], "range": [[1, 0], [4, 3]]}
    outline: Spec = {
        "x": x,
        "y": y,
        "order": {"field": "order", "type": "quantitative"},
        "color": colour,
        "strokeDash": {"field": "deviations", "type": "nominal", "scale": dash},
    }
    return (
        {
            "params": [ZOOM],
            "mark": {"type": "rule", "opacity": 0.3, "strokeWidth": 1, "clip": True},
            "encoding": {"x": x, "y": y, "x2": {"field": "x2"}, "y2": {"field": "y2"}},
        },
        {"mark": {"type": "line", "strokeWidth": 1.5, "clip": True, "tooltip": None}, "encoding": outline},
        {
            "mark": {"type": "point", "filled": True, "size": 38, "opacity": 0.75, "clip": True},
            "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": TIP},
        },
    )


def _axes(points: Sequence[Point]) -> tuple[Spec, Spec]:
    """Both axes at one scale, so that an ellipse keeps its shape whatever the width of the chart."""
    lows, highs = ([side(p[k] for p in points) for k in (0, 1)] for side in (min, max))
    middle = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
    spans = [1.08 * max(high - low, 1e-9) for low, high in zip(lows, highs, strict=True)]
    unit = f"max({spans[0]!r} / max(width, 1), {spans[1]!r} / max(height, 1))"

    def axis(k: int, field: str, size: str) -> Spec:
        return {
            "field": field,
            "type": "quantitative",
            "title": f"component {k + 1}",
            "scale": {
                "domainMin": {"expr": f"{middle[k]!r} - {unit} * {size} / 2"},
                "domainMax": {"expr": f"{middle[k]!r} + {unit} * {size} / 2"},
                "nice": False,
                "zero": False,
            },
            "axis": {"tickCount": 5},
        }

    return axis(0, "x", "width"), axis(1, "y", "height")


def _table(view: View) -> Table:
    rows = [
        (
            key.label,
            f"{g.mean[0]:.4g}",
            f"{g.mean[1]:.4g}",
            *(f"{c:.4g}" for c in g.covariance),
            str(len(view.points[key.value])),
        )
        for key in _SIDES
        for g in (view.gaussians[key.value],)
    ]
    header = ("side", "mean 1", "mean 2", "variance 1", "covariance", "variance 2", "held-out points")
    return Table(header, tuple(rows), "The Gaussians of the fit split, in the plane.")
