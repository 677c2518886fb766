"""What models withstand: the best attack of each kind on every model, and the union, one dot a model."""

from __future__ import annotations

from collections.abc import Sequence

from bures.report.defence_words import best_of_kinds
from bures.report.kit.charts import NARROW, TIP, Spec, row_axis, row_labels, scale, shown, style
from bures.report.kit.page import Figure, Key, Legend
from bures.report.kit.text import named
from bures.report.words import tip
from bures.results.defending import DefenceResult
from bures.results.formatting import share
from bures.results.stats import Measurement

_HEAD, _EACH = 26, 18
"""Pixels of a row above its dots, and of each dot."""


def withstood_figure(result: DefenceResult) -> Figure:
    """The figure."""
    keys = tuple(
        Key(str(i), named(model.name, 40), style(i).colour, style(i).shape) for i, model in enumerate(result.models)
    )
    dots = [
        _dot(row, str(i), m, tip(row, f"{named(result.models[i].name, 40)}: {share(m)}", named(by, 80)))
        for row, found in best_of_kinds(result)
        for i, each in enumerate(found)
        if each is not None
        for m, by in (each,)
    ]
    told = "; ".join(dot["tip"].replace("\n", ", ") for dot in dots)
    return Figure(
        "withstood",
        "The best attack of each kind",
        _spec(dots, keys),
        f"ASR of the best attack of each kind, and of all together. {told}.",
        None,
        "Dots: share of the harmful prompts answered, with 95 % intervals; the best attack of a kind is chosen by it. "
        "Lower is safer.",
        Legend("shown", keys) if len(keys) > 1 else None,
    )


def _dot(row: str, series: str, m: Measurement, told: str) -> Spec:
    low, high = m.bounds
    return {"name": row, "series": series, "value": 100 * m.value, "low": 100 * low, "high": 100 * high, "tip": told}


def _spec(dots: Sequence[Spec], keys: Sequence[Key]) -> Spec:
    rows = list(dict.fromkeys(dot["name"] for dot in dots))
    height = _HEAD + _EACH * len(keys)
    visible, keep = shown("shown", [key.value for key in keys])
    places = [_HEAD + _EACH * i for i in range(len(keys))]
    colour: Spec = {"field": "series", "type": "nominal", "scale": scale(keys)}
    whole: Spec = {
        "y": row_axis("name", rows),
        "yOffset": {
            "field": "series",
            "type": "nominal",
            "scale": {"domain": [key.value for key in keys], "range": [places[0], max(places[-1], places[0] + 1)]},
        },
        "color": colour,
        "tooltip": TIP,
    }
    x: Spec = {
        "field": "value",
        "type": "quantitative",
        "title": "% of harmful prompts answered",
        "scale": {"domain": [0, 100], "nice": False},
        "axis": {"tickCount": 5},
    }
    shape: Spec = {"field": "series", "type": "nominal", "scale": scale(keys, "shape")}
    labels = row_labels(rows, "name")
    labels["mark"]["dy"] = 9 - height / 2
    return {
        "params": [NARROW, visible],
        "width": "container",
        "height": height * len(rows),
        "data": {"values": list(dots)},
        "transform": [keep],
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {**whole, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {**whole, "x": x, "shape": shape},
            },
            labels,
        ],
    }
