"""How harmful and harmless prompts lie apart at every block; `bures.jobs.geometry` defines the quantities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bures.report.kit.charts import STYLES, TIP, Spec, chosen, shown
from bures.report.kit.page import Choice, Figure, Key, Legend, Table
from bures.report.sections.profile import block_name, depth, depth_axis, marked, marked_keys
from bures.report.words import prompts, tip
from bures.results.formatting import estimate, number
from bures.results.records import BlockGeometry, Localisation


class _Quantity(NamedTuple):
    """A quantity: its name in the results, on a button and at the head of a column, and how many digits it has."""

    name: str
    label: str
    head: str
    digits: int


_QUANTITIES = (
    _Quantity("auroc", "AUROC, held out", "AUROC [95%]", 2),
    _Quantity("distance", "2-Wasserstein distance", "distance", 2),
    _Quantity("mean_share", "% of it in the means", "in the means %", 0),
    _Quantity("distance_whitened", "distance, whitened", "whitened", 2),
    _Quantity("fisher", "largest Fisher ratio", "Fisher", 1),
    _Quantity("effective_rank", "effective rank", "rank", 0),
    _Quantity("gaussian_share", "% of Gaussian marginals", "Gaussian %", 0),
    _Quantity("angle_previous", "angle to the block before, degrees", "angle", 0),
    _Quantity("angle_rfa", "angle of RFA to PCA-OT, degrees", "to RFA", 0),
)


def geometry_figure(found: Localisation) -> Figure:
    """One quantity at a time, over depth."""
    key = Key("geometry", "harmful against harmless", STYLES[1].colour, STYLES[1].shape)
    keys = (key, *marked_keys(found, found.n_blocks, [here.block for here in found.geometry]))
    offered = tuple(
        (quantity.name, quantity.label)
        for quantity in _QUANTITIES
        if any(_value(quantity, here) is not None for here in found.geometry)
    )
    first, last = found.geometry[0], found.geometry[-1]
    return Figure(
        "observational",
        "Observational: how harmful and harmless prompts lie apart",
        _spec(found, keys),
        f"Held-out AUROC from {number(first.auroc)} at block {first.block} to {number(last.auroc)} at block "
        f"{last.block}; other quantities can be chosen.",
        _table(found),
        "What can be told apart at a block need not be what refusal depends on. Over "
        f"{prompts(first.auroc.n, 'held-out')}; distances are in units of the spread of all activations.",
        Legend("shown", keys),
        (Choice("quantity", "Quantity", offered),),
    )


def _value(quantity: _Quantity, here: BlockGeometry) -> float | None:
    name = quantity.name
    if name == "auroc":
        return here.auroc.value
    if name == "fisher":
        return max(here.fisher) if here.fisher else None
    value: float | None = getattr(here, name)
    return 100 * value if name in ("mean_share", "gaussian_share") and value is not None else value


def _spec(found: Localisation, keys: Sequence[Key]) -> Spec:
    visible, keep = shown("shown", [key.value for key in keys])
    offered, of_quantity = chosen("quantity", "auroc", "quantity")
    values = [
        _dot(found.n_blocks, here, quantity, value)
        for quantity in _QUANTITIES
        for here in found.geometry
        if (value := _value(quantity, here)) is not None
    ]
    x = depth_axis(found.n_blocks)
    y: Spec = {
        "field": "y",
        "type": "quantitative",
        "title": None,
        "scale": {"zero": False},
        "axis": {"tickCount": 5},
    }
    colour, shape = keys[0].colour, keys[0].shape
    whiskers: Spec = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}
    layers: list[Spec] = [
        {"mark": {"type": "rule", "opacity": 0.6, "strokeWidth": 2, "color": colour}, "encoding": whiskers},
        {"mark": {"type": "line", "color": colour}, "encoding": {"x": x, "y": y}},
        {
            "mark": {"type": "point", "filled": True, "opacity": 1, "color": colour, "shape": shape},
            "encoding": {"x": x, "y": y, "tooltip": TIP},
        },
    ]
    return {
        "params": [visible, offered],
        "width": "container",
        "height": 220,
        "data": {"values": values},
        "layer": [
            *marked(found, x, found.n_blocks, [here.block for here in found.geometry]),
            *({"transform": [keep, of_quantity], **layer} for layer in layers),
        ],
    }


def _dot(n_blocks: int, here: BlockGeometry, quantity: _Quantity, value: float) -> Spec:
    low, high, said = value, value, f"{value:.3g}"
    if quantity.name == "auroc":
        (low, high), said = here.auroc.bounds, f"{estimate(here.auroc, 3)}, n = {here.auroc.n}"
    return {
        "series": "geometry",
        "quantity": quantity.name,
        "x": depth(here.block, n_blocks),
        "y": value,
        "low": low,
        "high": high,
        "tip": tip(block_name(here.block, n_blocks), f"{quantity.label}: {said}"),
    }


def _table(found: Localisation) -> Table:
    rows = [(str(here.block), number(depth(here.block, found.n_blocks), 0), *_cells(here)) for here in found.geometry]
    caption = "Angles in degrees: to the subspace of the block before, and of RFA's direction to PCA-OT's subspace."
    return Table(("block", "depth %", *(quantity.head for quantity in _QUANTITIES)), tuple(rows), caption)


def _cells(here: BlockGeometry) -> list[str]:
    return [estimate(here.auroc), *(number(_value(each, here), each.digits) for each in _QUANTITIES[1:])]
