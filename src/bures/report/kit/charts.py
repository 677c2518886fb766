"""What charts share: colours, symbols, the look, and the parts that tie a chart to the page's buttons.

Colours are CSS variables, so that a chart follows light, dark and print without being drawn again. They are the palette
of Okabe and Ito (2008), told apart by readers with any colour vision; a symbol or a dash always says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]

INK, MUTED, FAINT, SURFACE = "var(--ink)", "var(--muted)", "var(--grid)", "var(--surface)"
BAND, RANGE, EDGE, UNSEEN = "var(--band)", "var(--range)", "var(--edge)", "var(--unseen)"
"""A band behind a chart; a range that stands out before it, and its edge; a part of which nothing is known."""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Style:
    """How a series looks: `colour` is CSS, `shape` a Vega symbol, `dash` a stroke pattern (empty: solid)."""

    colour: str
    shape: str
    dash: tuple[int, ...] = ()


STYLES = (
    Style("var(--s1)", "circle"),
    Style("var(--s2)", "square", (6, 3)),
    Style("var(--s3)", "triangle-up", (2, 3)),
    Style("var(--s4)", "diamond", (8, 3, 2, 3)),
    Style("var(--s5)", "triangle-down", (10, 4)),
    Style("var(--s6)", "cross", (4, 2)),
    Style("var(--s7)", "triangle-right", (1, 2)),
)
"""For series in any order."""

BASELINE = Style(MUTED, "circle")
"""For the model as it is."""


def style(index: int) -> Style:
    """The style of the series with this number; they repeat after seven."""
    return STYLES[index % len(STYLES)]


CONFIG: Spec = {
    "background": "transparent",
    "font": _FONT,
    "padding": {"left": 2, "right": 14, "top": 8, "bottom": 2},
    "view": {"stroke": None},
    "aria": False,
    "axis": {
        "labelColor": MUTED,
        "labelFontSize": 12,
        "labelPadding": 6,
        "titleColor": MUTED,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
        "gridColor": FAINT,
        "domainColor": FAINT,
        "tickColor": FAINT,
        "ticks": False,
        "domain": False,
        "labelFlush": False,
        "labelOverlap": True,
        "labelSeparation": 6,
    },
    "axisY": {"titleAlign": "left", "titleAngle": 0, "titleAnchor": "start", "titleX": 0, "titleY": -12},
    "legend": {"disable": True},
    "text": {"fill": MUTED, "fontSize": 12},
    "rule": {"stroke": MUTED},
    "point": {"size": 70, "strokeWidth": 1.5},
    "line": {"strokeWidth": 2},
}
"""The look of every chart on a page."""

AUTOSIZE: Spec = {"type": "fit-x", "contains": "padding"}
"""A chart is as wide as its column, labels included, and as high as its specification says."""

ZOOM: Spec = {
    "name": "zoom",
    "select": {
        "type": "interval",
        "zoom": "wheel![event.ctrlKey || event.metaKey]",
        "translate": "[pointerdown[event.pointerType !== 'touch'], window:pointerup] > window:pointermove!",
    },
    "bind": "scales",
}
"""A parameter for the first layer of a chart: Ctrl and the wheel zoom, so that the page itself still scrolls."""


def shown(param: str, values: Iterable[str], field: str = "series") -> tuple[Spec, Spec]:
    """The parameter that a `Legend` sets, and the transform that keeps what is shown."""
    return {"name": param, "value": list(values)}, {"filter": f"indexof({param}, datum.{field}) >= 0"}


def chosen(param: str, value: str, field: str) -> tuple[Spec, Spec]:
    """The parameter that a `Choice` sets, and the transform that keeps what is chosen."""
    return {"name": param, "value": value}, {"filter": f"datum.{field} == {param}"}


def scale(keys: Sequence[Any], attribute: str = "colour") -> Spec:
    """An ordinal scale from the values of legend keys to their colour or shape."""
    return {"domain": [key.value for key in keys], "range": [getattr(key, attribute) for key in keys]}


def dashes(keys: Sequence[Any]) -> Spec:
    """An ordinal scale from the values of legend keys to their dashes."""
    return {"domain": [key.value for key in keys], "range": [list(key.dash) or [1, 0] for key in keys]}


HALO: Spec = {"stroke": SURFACE, "strokeWidth": 3}
"""Of text that may cross lines; the style sheet paints it behind the letters."""

NARROW: Spec = {"name": "narrow", "expr": "containerSize()[0] < 560"}
"""A parameter: whether the chart stands on a phone, where the labels of rows stand above them."""

ROW_HEIGHT = 54
"""Of a chart with one row a thing; `row_axis` and `row_labels` place labels and marks in it."""


def row_axis(field: str, rows: Sequence[str]) -> Spec:
    """The encoding of rows from top to bottom: labels at the left, a line each, where there is room."""
    return {
        "field": field,
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(rows), "paddingInner": 0, "paddingOuter": 0},
        "axis": {
            "labelExpr": "narrow ? '' : split(datum.label, '\\n')",
            "labelLimit": 300,
            "labelColor": INK,
            "labelPadding": 10,
        },
    }


def row_offset(field: str, values: Sequence[str]) -> Spec:
    """The encoding that sets the marks of a row one below the other."""
    return {"field": field, "type": "nominal", "scale": {"domain": list(values), "range": [18, 50]}}


def row_labels(rows: Sequence[str], field: str) -> Spec:
    """A layer: the labels above the rows, where there is no room at the left."""
    return {
        "data": {"values": [{field: row, "line": row.replace("\n", ", ")} for row in rows]},
        "mark": {
            "type": "text",
            "align": "left",
            "baseline": "middle",
            "dy": -18,
            "x": 0,
            "color": INK,
            "fontSize": 10,
            **HALO,
            "limit": {"expr": "width"},
            "opacity": {"expr": "narrow ? 1 : 0"},
            "tooltip": None,
        },
        "encoding": {"y": {"field": field, "type": "nominal"}, "text": {"field": "line", "type": "nominal"}},
    }


TIP: Spec = {"field": "tip", "type": "nominal"}
"""The tooltip: the text in the field `tip`; its first line is set bold."""
