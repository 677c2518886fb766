"""Success against damage: ASR over perplexity and over KL, and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bures.report.kit.charts import HALO, INK, MUTED, SURFACE, TIP, ZOOM, Spec, shown
from bures.report.kit.nudged import WIDTH, fraction, nudged
from bures.report.kit.page import Figure, Grid, Key, Legend, Section, Table
from bures.report.sections.outcome import measured_rows
from bures.report.words import (
    candidate_title,
    listed,
    method_name,
    method_style,
    one_block,
    padded,
    row_title,
    tip,
)
from bures.results.formatting import brief, number, share
from bures.results.records import MethodNote
from bures.results.schema import AuditResult, Row
from bures.results.shares import certain_success
from bures.results.stats import Measurement


def ratio_of(row: Row) -> float | None:
    """Perplexity over the original's: 1 for the original itself."""
    return 1.0 if row.method == "none" else row.perplexity_ratio


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which (cost, gain) no other one beats: less cost and at least the gain, or more gain at most the cost."""

    def beaten(i: int) -> bool:
        cost, gain = points[i]
        return any((c <= cost and g >= gain) and (c, g) != (cost, gain) for c, g in points)

    return sorted((i for i in range(len(points)) if not beaten(i)), key=lambda i: points[i])


def trade_section(result: AuditResult) -> Section | None:
    """ASR over both costs; None where fewer than two rows have one."""
    figures = [figure for figure in (_against(result, "ratio"), _against(result, "kl")) if figure is not None]
    if not figures:
        return None
    methods = list(dict.fromkeys(row.method for _, row in measured_rows(result)))
    notes = result.methods
    styles = {m: method_style(m, notes) for m in methods}
    keys = [Key(m, method_name(m, notes), styles[m].colour, styles[m].shape) for m in methods]
    keys.append(Key("front", "Pareto front (test)", INK, "", (5, 4)))
    if any(trial.asr for trial in result.trials):
        keys.append(Key("trial", "tried on the selection prompts", MUTED, "stroke"))
    return Section(
        "damage",
        "What it costs",
        (
            (
                "An intervention that breaks the model is no finding: up and to the left is what an attacker wants. "
                "Numbers are the table's rows; filled symbols change one block, hollow ones several. What was tried "
                "on the selection prompts at a higher cost lies outside; zoom out to see it."
            ),
            Grid(tuple(figures), Legend("shown", tuple(keys))),
        ),
    )


class _Cost(NamedTuple):
    """What a row costs, and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class _Point:
    """A row on the chart, with its number in the table."""

    number: int
    row: Row
    asr: Measurement
    cost: _Cost


def _cost(row: Row, cost: str) -> _Cost | None:
    if cost == "ratio":
        ratio = ratio_of(row)
        return None if ratio is None else _Cost(ratio, ratio, ratio)
    if row.kl is None:
        return None
    low, high = row.kl.bounds
    return _Cost(row.kl.value, max(0.0, low), high)


def _against(result: AuditResult, cost: str) -> Figure | None:
    points = [
        _Point(i, row, row.asr[result.judge], where)
        for i, row in measured_rows(result)
        if (where := _cost(row, cost)) is not None
    ]
    if len(points) < 2:
        return None
    best = [points[j] for j in front([(point.cost.value, point.asr.value) for point in points])]
    title = "ASR against perplexity" if cost == "ratio" else "ASR against KL"
    names = [f"{point.number} ({brief(point.asr)} at {number(point.cost.value, 3)})" for point in best]
    return Figure(
        f"against-{cost}",
        title,
        _spec(points, best, _trials(result, cost), cost, result.methods),
        f"{title}: {len(points)} interventions on the test prompts. On the Pareto front, by rising cost, are rows "
        f"{listed(names)}.",
        _table(points, best),
        zoom=True,
    )


def _costs(ratio: float | None, kl: Measurement | None) -> str:
    return f"× {number(ratio)}, KL {number(kl, 3)}"


def _dot(point: _Point) -> Spec:
    row, m = point.row, point.asr
    low, high = m.bounds
    over = "over the perplexity budget when chosen" if row.within_budget is False else ""
    return {
        "series": row.method,
        "number": str(point.number),
        "several": not one_block(row),
        "x": point.cost.value,
        "x_low": point.cost.low,
        "x_high": point.cost.high,
        "y": 100 * m.value,
        "y_low": 100 * low,
        "y_high": 100 * high,
        "tip": tip(
            f"{point.number}  {row_title(row)}", f"ASR {brief(m)}, n = {m.n}", _costs(ratio_of(row), row.kl), over
        ),
    }


def _trials(result: AuditResult, cost: str) -> list[Spec]:
    """What was tried on the selection split."""
    dots: list[Spec] = []
    for trial in result.trials:
        x = trial.perplexity_ratio if cost == "ratio" else None if trial.kl is None else trial.kl.value
        if trial.asr is None or x is None:
            continue
        asr, again = f"ASR {brief(trial.asr)}, n = {trial.asr.n} selection prompts", certain_success(trial.again)
        said = tip(
            f"tried: {candidate_title(trial.candidate, result.methods)}",
            asr,
            "" if again is None else f"again: {brief(again)}, n = {again.n} further ones",
            _costs(trial.perplexity_ratio, trial.kl),
        )
        dots.append({"series": "trial", "x": x, "y": 100 * trial.asr.value, "tip": said})
    return dots


def _table(points: Sequence[_Point], best: Sequence[_Point]) -> Table:
    rows = [
        (
            str(point.number),
            row_title(point.row),
            share(point.asr, unit=""),
            number(ratio_of(point.row), 3),
            number(point.row.kl, 3),
            "yes" if point in best else "no",
        )
        for point in points
    ]
    return Table(("#", "row", "ASR % [95%]", "×", "KL", "on the front"), tuple(rows))


# The chart -------------------------------------------------------------------------------------------------------

_HEIGHT = 300

ASR_AXIS: Spec = {
    "field": "y",
    "type": "quantitative",
    "title": "ASR, %",
    "scale": {"domain": [-5, 106], "nice": False},
    "axis": {"values": [0, 20, 40, 60, 80, 100]},
}


def cost_axis(cost: str, costs: Sequence[float]) -> Spec:
    """The axis of `ratio` or `kl`: logarithmic for ratios that explode, square root for KL, whose original is at 0."""
    axis: Spec = {"field": "x", "type": "quantitative", "axis": {"tickCount": 5}}
    if cost == "kl":
        most = max(costs) or 1.0
        root: Spec = {"type": "pow", "exponent": 0.5, "domain": [-0.002 * most, 1.15 * most], "nice": False}
        return {**axis, "title": "KL from the original, nats (square-root scale)", "scale": root}
    low, high = min(costs), max(costs)
    if high / max(low, 1e-12) < 4:
        ratio: Spec = {"domain": list(padded(costs, pad=0.08)), "zero": False, "nice": False}
        scaled = ""
    else:
        ratio = {"type": "log", "domain": [low / 1.1, high * 1.15], "nice": False}
        scaled = " (logarithmic scale)"
    return {**axis, "title": f"perplexity over the original's{scaled}", "scale": ratio}


def front_layer(points: Sequence[Spec], x: Spec) -> Spec:
    """The Pareto front through points by rising cost: how far an attacker comes at most at a cost."""
    mark: Spec = {"type": "line", "color": INK, "strokeDash": [5, 4], "strokeWidth": 1.5, "clip": True}
    return {
        "data": {"values": [{"series": "front", "x": point["x"], "y": point["y"]} for point in points]},
        "mark": {**mark, "interpolate": "step-after"},
        "encoding": {"x": x, "y": ASR_AXIS},
    }


def _reach(dots: Sequence[Spec]) -> list[float]:
    """The costs of the rows, and how far their intervals go, within reason."""
    costs = [dot["x"] for dot in dots]
    return [*costs, *(min(dot["x_high"], 1.5 * max(costs)) for dot in dots)]


def _spec(
    points: Sequence[_Point],
    best: Sequence[_Point],
    trials: list[Spec],
    cost: str,
    notes: Mapping[str, MethodNote],
) -> Spec:
    dots = [_dot(point) for point in points]
    methods = sorted({dot["series"] for dot in dots})
    styles = [method_style(method, notes) for method in methods]
    visible, keep = shown("shown", [*methods, "front", "trial"])
    x, y = cost_axis(cost, _reach(dots)), ASR_AXIS
    series: Spec = {"field": "series", "type": "nominal"}
    colour: Spec = {**series, "scale": {"domain": methods, "range": [s.colour for s in styles]}}
    shape: Spec = {**series, "scale": {"domain": methods, "range": [s.shape for s in styles]}}
    tried: Spec = {"type": "point", "shape": "stroke", "color": MUTED, "opacity": 0.55, "size": 60, "clip": True}
    whisker: Spec = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.55, "clip": True}
    symbol: Spec = {"type": "point", "size": 90, "opacity": 1, "clip": True}
    at: Spec = {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": TIP}
    upright: Spec = {"x": x, "y": {**y, "field": "y_low"}, "y2": {"field": "y_high"}, "color": colour}
    across: Spec = {"y": y, "x": {**x, "field": "x_low"}, "x2": {"field": "x_high"}, "color": colour}
    one, several = ([dot for dot in dots if dot["several"] is many] for many in (False, True))
    layers: list[Spec] = [
        {
            "params": [ZOOM],
            "data": {"values": trials},
            "mark": tried,
            "encoding": {"x": x, "y": y, "tooltip": TIP},
        },
        front_layer([_dot(point) for point in best], x),
        *({"data": {"values": dots}, "mark": whisker, "encoding": ends} for ends in (upright, across)),
        {"data": {"values": one}, "mark": {**symbol, "filled": True}, "encoding": at},
        {"data": {"values": several}, "mark": {**symbol, "filled": False, "fill": SURFACE}, "encoding": at},
        *_numbers(dots, x),
    ]
    return {
        "params": [visible],
        "width": "container",
        "height": _HEIGHT,
        "layer": [{**layer, "transform": [keep]} for layer in layers],
    }


def _numbers(dots: Sequence[Spec], x: Spec) -> list[Spec]:
    """The numbers of the rows beside their dots, a layer a place."""
    spots = [
        (WIDTH * fraction(x["scale"], dot["x"]), _HEIGHT * (1 - fraction(ASR_AXIS["scale"], dot["y"]))) for dot in dots
    ]
    places = nudged(spots, [dot["number"] for dot in dots])
    text: Spec = {"type": "text", "color": INK, **HALO, "clip": True}
    return [
        {
            "data": {"values": [dot for dot, at in zip(dots, places, strict=True) if at == place]},
            "mark": {**text, "dx": place.dx, "dy": place.dy, "align": place.align},
            "encoding": {"x": x, "y": ASR_AXIS, "text": {"field": "number", "type": "nominal"}},
        }
        for place in dict.fromkeys(places)
    ]
