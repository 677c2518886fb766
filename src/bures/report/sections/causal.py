"""What the best map at every block does to refusal."""

from __future__ import annotations

from collections.abc import Sequence

from bures.report.kit.charts import INK, STYLES, TIP, Spec, scale, shown
from bures.report.kit.page import Figure, Key, Legend, Table
from bures.report.kit.text import named
from bures.report.sections.profile import block_name, depth, depth_axis, depth_text, marked, marked_keys
from bures.report.words import tip
from bures.results.formatting import brief, number, share
from bures.results.records import Effect, Localisation


def effects_figure(found: Localisation) -> Figure:
    """The share of refusal that maps at one block remove, and what their reverse induces."""
    keys = _keys(found)
    peak = found.strongest
    where = f"block {peak.blocks[0]} ({depth_text(peak.blocks[0], found.n_blocks)} depth)"
    return Figure(
        "causal",
        "Causal: how much refusal a map at one block removes",
        _spec(found, keys),
        f"Share of the first-token refusal that the best map at each of {len(found.effects)} blocks removes. The "
        f"strongest, such as that at {where}, remove {brief(peak.removed)}. {found.sentence}",
        _table(found),
        "The map is chosen on one half of the selection prompts and measured on the other. Lines are 95% intervals, of "
        "one block each: the highest of many points lies above what its block truly does. "
        f"The model as it is begins a refusal with probability {brief(found.refusal)} on harmful prompts and "
        f"{brief(found.refusal_harmless)} on harmless ones.",
        Legend("shown", keys),
    )


def joint_table(found: Localisation) -> Table:
    """What maps at several blocks do together."""
    rows = [
        (
            "+".join(map(str, effect.blocks)) if len(effect.blocks) < 3 else f"{len(effect.blocks)} blocks",
            share(effect.removed, unit=""),
            named(effect.candidate or "-", 60),
            number(effect.kl),
        )
        for effect in found.joint
    ]
    return Table(("blocks", "refusal removed % [95%]", "by", "KL"), tuple(rows), "Several blocks together.")


def _keys(found: Localisation) -> tuple[Key, ...]:
    keys = [Key("removed", "best map at the block", STYLES[0].colour, STYLES[0].shape)]
    if any(effect.induced for effect in found.effects):
        keys.append(Key("induced", "reversed map, on harmless prompts: refusal induced", STYLES[1].colour, "square"))
    if found.shuffled is not None:
        keys.append(Key("shuffled", f"best of {found.shuffled.fits} fits on shuffled labels", INK, "", (5, 4)))
    return (*keys, *marked_keys(found, found.n_blocks, found.scanned))


def _spec(found: Localisation, keys: Sequence[Key]) -> Spec:
    visible, keep = shown("shown", [key.value for key in keys])
    values = [value for effect in found.effects for value in _values(found, effect)]
    x = depth_axis(found.n_blocks)
    y: Spec = {
        "field": "y",
        "type": "quantitative",
        "title": "% of first-token refusal",
        "scale": {"domain": [min([0.0, *(v["low"] for v in values)]), 103], "nice": False},
        "axis": {"values": [0, 20, 40, 60, 80, 100]},
    }
    series = [key for key in keys if key.value in ("removed", "induced")]
    colour: Spec = {"field": "series", "type": "nominal", "scale": scale(series)}
    shape: Spec = {"field": "series", "type": "nominal", "scale": scale(series, "shape")}
    level = [] if found.shuffled is None else [{"series": "shuffled", "y": 100 * found.shuffled.largest}]
    whiskers: Spec = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour}
    layers: list[Spec] = [
        {"data": {"values": level}, "mark": {"type": "rule", "color": INK, "strokeDash": [5, 4]}, "encoding": {"y": y}},
        {"mark": {"type": "rule", "opacity": 0.6, "strokeWidth": 2}, "encoding": whiskers},
        {"mark": {"type": "line"}, "encoding": {"x": x, "y": y, "color": colour}},
        {
            "mark": {"type": "point", "filled": True, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": TIP},
        },
    ]
    return {
        "params": [visible],
        "width": "container",
        "height": 260,
        "data": {"values": values},
        "layer": [
            *marked(found, x, found.n_blocks, found.scanned),
            *({"transform": [keep], **layer} for layer in layers),
        ],
    }


def _values(found: Localisation, effect: Effect) -> list[Spec]:
    block = effect.blocks[0]
    by = named(effect.candidate or "no map within the KL limit", 60)
    cost = "" if effect.kl is None else f"KL on harmless prompts {number(effect.kl)}"
    values: list[Spec] = []
    for series, m, what in (("removed", effect.removed, "removes"), ("induced", effect.induced, "induces")):
        if m is None:
            continue
        low, high = m.bounds
        values.append(
            {
                "series": series,
                "x": depth(block, found.n_blocks),
                "y": 100 * m.value,
                "low": 100 * low,
                "high": 100 * high,
                "tip": tip(block_name(block, found.n_blocks), f"{what} {brief(m)}, n = {m.n}", by, cost),
            }
        )
    return values


def _table(found: Localisation) -> Table:
    rows = [
        (
            str(effect.blocks[0]),
            number(depth(effect.blocks[0], found.n_blocks), 0),
            share(effect.removed, unit=""),
            str(effect.removed.n),
            named(effect.candidate or "-", 60),
            number(effect.kl),
            share(effect.induced, unit=""),
        )
        for effect in found.effects
    ]
    return Table(("block", "depth %", "refusal removed % [95%]", "n", "by", "KL", "induced % [95%]"), tuple(rows))
