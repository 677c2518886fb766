"""What the layer profiles share: depth as their axis, the paper's band, and the range where refusal is decided."""

from __future__ import annotations

from collections.abc import Collection

from bures.report.kit.charts import BAND, EDGE, MUTED, RANGE, UNSEEN, Spec
from bures.report.kit.page import Key
from bures.report.words import block_range
from bures.results.formatting import number
from bures.results.records import BlockRange, Localisation

PAPER_BAND = (40.0, 60.0)
"""Depths in per cent at which the paper (arXiv 2603.04355) intervenes."""

_BAND_KEY = Key("band", "40–60%, where arXiv 2603.04355 intervenes", BAND, "area", hollow=True)
_TICKS = 10


def depth(block: int, n_blocks: int) -> float:
    """Depth of a block's output, in per cent."""
    return 100 * (block + 1) / n_blocks


def depth_text(block: int, n_blocks: int) -> str:
    """`50%`."""
    return f"{number(depth(block, n_blocks), 0)}%"


def block_name(block: int, n_blocks: int) -> str:
    """`block 15, 50% depth`."""
    return f"block {block}, {depth_text(block, n_blocks)} depth"


def depth_axis(n_blocks: int) -> Spec:
    """Depth, of the whole network; its labels are numbers of blocks, and their depths below."""
    half = 50 / n_blocks
    return {
        "field": "x",
        "type": "quantitative",
        "title": f"block of {n_blocks} (numbered from 0), and its depth",
        "scale": {"domain": [min(half, 100 / n_blocks - half), 100 + half], "nice": False, "zero": False},
        "axis": {
            "values": [depth(block, n_blocks) for block in range(0, n_blocks, -(-n_blocks // _TICKS))],
            "labelExpr": f"[format(round(datum.value * {n_blocks} / 100) - 1, 'd'), format(datum.value, '.0f') + '%']",
        },
    }


def unscanned(n_blocks: int, blocks: Collection[int]) -> list[BlockRange]:
    """The ranges of blocks that were not scanned."""
    found: list[BlockRange] = []
    for block in sorted(set(range(n_blocks)) - set(blocks)):
        if found and found[-1].last == block - 1:
            found[-1] = BlockRange(found[-1].first, block)
        else:
            found.append(BlockRange(block, block))
    return found


def marked(found: Localisation | None, x: Spec, n_blocks: int, blocks: Collection[int]) -> list[Spec]:
    """Layers behind a profile: what was not scanned, the paper's band, and the blocks where refusal is decided."""
    in_paper, in_range, unseen = (
        [{"filter": f"indexof(shown, '{name}') >= 0"}] for name in ("band", "range", "unseen")
    )
    area: Spec = {"type": "rect", "clip": True, "tooltip": None}
    across: Spec = {"x": x, "x2": {"field": "x2"}}
    band: Spec = {"data": {"values": [{"x": PAPER_BAND[0], "x2": PAPER_BAND[1]}]}, "transform": in_paper}
    layers: list[Spec] = [{**band, "mark": {**area, "color": BAND}, "encoding": across}]
    gaps = [_span(each, n_blocks) for each in unscanned(n_blocks, blocks)]
    if gaps:
        nothing: Spec = {"data": {"values": gaps}, "transform": unseen}
        layers.append({**nothing, "mark": {**area, "color": UNSEEN, "opacity": 0.55}, "encoding": across})
    if found is not None and found.decided is not None:
        decided: Spec = {"data": {"values": [_span(found.decided, n_blocks)]}, "transform": in_range}
        layers += [
            {**decided, "mark": {**area, "color": RANGE, "opacity": 0.4}, "encoding": across},
            {**decided, "mark": {**area, "color": EDGE, "y": 0, "y2": 4}, "encoding": across},
        ]
    edges: Spec = {"data": {"values": [{"x": edge} for edge in PAPER_BAND]}, "transform": in_paper}
    dotted: Spec = {"type": "rule", "color": MUTED, "strokeDash": [2, 3], "clip": True, "tooltip": None}
    return [*layers, {**edges, "mark": dotted, "encoding": {"x": x}}]


def _span(blocks: BlockRange, n_blocks: int) -> Spec:
    """The depths of a range, half a block more to either side."""
    half = 50 / n_blocks
    return {"x": depth(blocks.first, n_blocks) - half, "x2": depth(blocks.last, n_blocks) + half}


def marked_keys(found: Localisation | None, n_blocks: int, blocks: Collection[int]) -> tuple[Key, ...]:
    """The legend of `marked`."""
    gaps = unscanned(n_blocks, blocks)
    keys = (_BAND_KEY, *([Key("unseen", "not scanned", UNSEEN, "area")] if gaps else []))
    if found is None or found.decided is None:
        return keys
    where = block_range(found.decided, found.n_blocks)
    return (*keys, Key("range", f"decided here: {where}", EDGE, "area"))
