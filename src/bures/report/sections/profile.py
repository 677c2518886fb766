"""What the layer profiles share: depth as their axis, the paper's band, and the range where refusal is decided."""

from __future__ import annotations

from collections.abc import Sequence

from bures.report.kit.charts import BAND, EDGE, MUTED, RANGE, Spec
from bures.report.kit.page import Key
from bures.report.words import block_range
from bures.results.formatting import number
from bures.results.records import Localisation

PAPER_BAND = (40.0, 60.0)
"""Depths in per cent at which the paper (arXiv 2603.04355) intervenes."""

_BAND_KEY = Key("band", "the paper's band, 40–60%", BAND, "area", hollow=True)


def depth(block: int, n_blocks: int) -> float:
    """Depth of a block's output, in per cent."""
    return 100 * (block + 1) / n_blocks


def depth_text(block: int, n_blocks: int) -> str:
    """`50%`."""
    return f"{number(depth(block, n_blocks), 0)}%"


def block_name(block: int, n_blocks: int) -> str:
    """`block 15, 50% depth`."""
    return f"block {block}, {depth_text(block, n_blocks)} depth"


def depth_axis(n_blocks: int, blocks: Sequence[int]) -> Spec:
    """Depth, from the first block scanned to the last, and never without the paper's band."""
    half = 50 / n_blocks
    low = min([depth(b, n_blocks) - half for b in blocks] + [PAPER_BAND[0] - 2])
    high = max([depth(b, n_blocks) + half for b in blocks] + [PAPER_BAND[1] + 2])
    return {
        "field": "x",
        "type": "quantitative",
        "title": f"depth, % of {n_blocks} blocks",
        "scale": {"domain": [max(0.0, low), min(100 + half, high)], "nice": False, "zero": False},
        "axis": {"tickCount": 8},
    }


def marked(found: Localisation | None, x: Spec) -> list[Spec]:
    """Layers behind a profile: the paper's band, and the blocks where refusal is decided."""
    in_paper, in_range = ([{"filter": f"indexof(shown, '{name}') >= 0"}] for name in ("band", "range"))
    area: Spec = {"type": "rect", "clip": True, "tooltip": None}
    across: Spec = {"x": x, "x2": {"field": "x2"}}
    band: Spec = {"data": {"values": [{"x": PAPER_BAND[0], "x2": PAPER_BAND[1]}]}, "transform": in_paper}
    layers: list[Spec] = [{**band, "mark": {**area, "color": BAND}, "encoding": across}]
    if found is not None and found.decided is not None:
        half = 50 / found.n_blocks
        low, high = (depth(block, found.n_blocks) for block in found.decided)
        decided: Spec = {"data": {"values": [{"x": low - half, "x2": high + half}]}, "transform": in_range}
        layers += [
            {**decided, "mark": {**area, "color": RANGE, "opacity": 0.4}, "encoding": across},
            {**decided, "mark": {**area, "color": EDGE, "y": 0, "y2": 4}, "encoding": across},
        ]
    edges: Spec = {"data": {"values": [{"x": edge} for edge in PAPER_BAND]}, "transform": in_paper}
    dotted: Spec = {"type": "rule", "color": MUTED, "strokeDash": [2, 3], "clip": True, "tooltip": None}
    return [*layers, {**edges, "mark": dotted, "encoding": {"x": x}}]


def marked_keys(found: Localisation | None) -> tuple[Key, ...]:
    """The legend of `marked`."""
    if found is None or found.decided is None:
        return (_BAND_KEY,)
    where = block_range(found.decided, found.n_blocks)
    return (_BAND_KEY, Key("range", f"decided here: {where}", EDGE, "area"))
