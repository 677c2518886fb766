"""Where in the network: the blocks where refusal is decided, and those that interventions chose, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from bures.report.kit.charts import BAND, EDGE, NARROW, ROW_HEIGHT, SURFACE, TIP, Spec, row_axis, row_labels, shown
from bures.report.kit.forest import MIDDLE
from bures.report.kit.page import Figure, Key, Legend, Section, Table
from bures.report.kit.text import named
from bures.report.sections.paired import side_name
from bures.report.sections.profile import PAPER_BAND, block_name, depth
from bures.report.words import block_range, method_style, tip
from bures.results.comparison import Audited, Compared
from bures.results.formatting import number


def depth_section(found: Compared) -> Section:
    table = Table(
        ("audit", "decided at", "in words"),
        tuple((named(audit.label), _decided(audit), named(audit.sentence or "-", 600)) for audit in found.audits),
    )
    figure = _depth_figure(found)
    return Section("where", "Where in the network", (*((figure,) if figure is not None else ()), table))


def _decided(audit: Audited) -> str:
    if audit.decided is None or audit.n_blocks is None:
        return "-"
    return block_range(audit.decided, audit.n_blocks)


def _depth_figure(found: Compared) -> Figure | None:
    labels = {audit.label: f"{i}  {named(audit.label, 34)}" for i, audit in enumerate(found.audits, 1)}
    ranges = [_range(audit, labels[audit.label]) for audit in found.audits if audit.decided is not None]
    dots = [dot for audit in found.audits for dot in _dots(found, audit, labels[audit.label])]
    if not dots and not any(ranges):
        return None
    notes = {name: note for audit in found.audits for name, note in audit.methods.items()}
    keys = [Key("range", "refusal is decided here", EDGE, "area")]
    for method in dict.fromkeys(dot["method"] for dot in dots):
        style = method_style(method, notes)
        label = next(dot["label"] for dot in dots if dot["method"] == method)
        keys.append(Key(method, label, style.colour, style.shape))
    return Figure(
        "depths",
        "Blocks where refusal is decided, and blocks that interventions at one block chose",
        _spec([each for each in ranges if each is not None], dots, keys, list(labels.values())),
        "; ".join(f"{named(audit.label)}: decided at {_decided(audit)}" for audit in found.audits)
        + ". "
        + "; ".join(dot["tip"].replace("\n", ", ") for dot in dots)
        + ".",
        None,
        f"The grey band is where arXiv 2603.04355 intervenes, {number(PAPER_BAND[0], 0)}–{number(PAPER_BAND[1], 0)}% "
        "depth.",
        Legend("shown", tuple(keys)),
    )


def _spec(ranges: list[Spec], dots: list[Spec], keys: Sequence[Key], rows: Sequence[str]) -> Spec:
    visible, keep = shown("shown", [key.value for key in keys])
    methods = [key.value for key in keys[1:]]
    x: Spec = {
        "field": "x",
        "type": "quantitative",
        "title": "depth, %",
        "scale": {"domain": [0, 102], "nice": False},
        "axis": {"tickCount": 6},
    }
    y = row_axis("name", rows)
    styles: Spec = {"field": "method", "type": "nominal"}
    colour = {**styles, "scale": {"domain": methods, "range": [key.colour for key in keys[1:]]}}
    shape = {**styles, "scale": {"domain": methods, "range": [key.shape for key in keys[1:]]}}
    apart: Spec = {**styles, "scale": {"domain": methods, "range": [ROW_HEIGHT / 2 - 11, ROW_HEIGHT / 2 + 21]}}
    band: Spec = {"values": [{"x": PAPER_BAND[0], "x2": PAPER_BAND[1]}]}
    bar: Spec = {"type": "rule", "color": EDGE, "strokeWidth": 40, "opacity": 0.4}
    symbol: Spec = {"type": "point", "filled": True, "size": 60, "opacity": 1, "stroke": SURFACE}
    across: Spec = {"x": x, "x2": {"field": "x2"}}
    at: Spec = {"x": x, "y": y, "yOffset": apart, "color": colour, "shape": shape, "tooltip": TIP}
    return {
        "params": [NARROW, visible],
        "width": "container",
        "height": ROW_HEIGHT * len(rows),
        "layer": [
            {"data": band, "mark": {"type": "rect", "color": BAND, "tooltip": None}, "encoding": across},
            {
                "data": {"values": ranges},
                "transform": [keep],
                "mark": bar,
                "encoding": {**across, "y": y, "yOffset": MIDDLE, "tooltip": TIP},
            },
            {"data": {"values": dots}, "transform": [keep], "mark": symbol, "encoding": at},
            row_labels(rows, "name"),
        ],
    }


def _range(audit: Audited, row: str) -> Spec | None:
    if audit.decided is None or audit.n_blocks is None:
        return None
    half = 50 / audit.n_blocks
    low, high = (depth(block, audit.n_blocks) for block in audit.decided)
    words = tip(named(audit.label), f"decided at {_decided(audit)}")
    return {"series": "range", "name": row, "x": low - half, "x2": high + half, "tip": words}


def _dots(found: Compared, audit: Audited, row: str) -> list[Spec]:
    """The blocks that the audit's interventions at one block chose, each method once."""
    if audit.n_blocks is None:
        return []
    sides = [
        side
        for pair in found.pairs
        for row in pair.rows
        for label, side in ((pair.a, row.a), (pair.b, row.b))
        if label == audit.label and len(side.blocks) == 1 and side.sites.isdigit()
    ]
    return [
        {
            "series": side.method,
            "method": side.method,
            "label": named(side.label, 40),
            "name": row,
            "x": depth(side.blocks[0], audit.n_blocks),
            "tip": tip(named(audit.label), f"{side_name(side)} at {block_name(side.blocks[0], audit.n_blocks)}"),
        }
        for side in {side.key: side for side in sides}.values()
    ]
