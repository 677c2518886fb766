"""How harmful and harmless prompts lie apart at every block; `bures.jobs.geometry` defines the quantities."""

from __future__ import annotations

from collections.abc import Sequence

from bures.report.kit.charts import STYLES, TIP, Spec, chosen, shown
from bures.report.kit.page import Choice, Figure, Key, Legend, Table
from bures.report.sections.profile import block_name, depth, depth_axis, marked, marked_keys
from bures.report.words import prompts, tip
from bures.results.formatting import number
from bures.results.records import BlockGeometry, Localisation

_QUANTITIES: tuple[tuple[str, str, str, int], ...] = (
    ("auroc", "AUROC, held out", "AUROC [95%]", 2),
    ("distance", "2-Wasserstein distance", "distance", 2),
    ("mean_share", "% of it in the means", "in the means %", 0),
    ("distance_whitened", "distance, whitened", "whitened", 2),
    ("fisher", "largest Fisher ratio", "Fisher", 1),
    ("effective_rank", "effective rank", "rank", 0),
    ("gaussian_share", "% of Gaussian marginals", "Gaussian %", 0),
    ("angle_previous", "angle to the block before, degrees", "angle", 0),
    ("angle_rfa", "angle of RFA to PCA-OT, degrees", "to RFA", 0),
)
"""Name in the results, on a button, at the head of a column, and digits there."""


def geometry_figure(found: Localisation) -> Figure:
    """One quantity at a time, over depth."""
    key = Key("geometry", "harmful against harmless", STYLES[1].colour, STYLES[1].shape)
    keys = (key, *marked_keys(found))
    offered = tuple(
        (name, label)
        for name, label, _, _ in _QUANTITIES
        if any(_quantity(name, here) is not None for here in found.geometry)
    )
    first, last = found.geometry[0], found.geometry[-1]
    return Figure(
        "observational",
        "Observational: how harmful and harmless prompts lie apart",
        _spec(found, keys),
        f"Held-out AUROC from {first.auroc.value:.2f} at block {first.block} to {last.auroc.value:.2f} at block "
        f"{last.block}; other quantities can be chosen.",
        _table(found),
        "What can be told apart at a block need not be what refusal depends on. Over "
        f"{prompts(first.auroc.n, 'held-out')}; distances are in units of the spread of all activations.",
        Legend("shown", keys),
        (Choice("quantity", "Quantity", offered),),
    )


def _quantity(name: str, here: BlockGeometry) -> float | None:
    if name == "auroc":
        return here.auroc.value
    if name == "fisher":
        return max(here.fisher) if here.fisher else None
    value: float | None = getattr(here, name)
    return 100 * value if name in ("mean_share", "gaussian_share") and value is not None else value


def _spec(found: Localisation, keys: Sequence[Key]) -> Spec:
    visible, keep = shown("shown", [key.value for key in keys])
    quantity, of_quantity = chosen("quantity", "auroc", "quantity")
    values = [
        _value(found.n_blocks, here, name, label, value)
        for name, label, _, _ in _QUANTITIES
        for here in found.geometry
        if (value := _quantity(name, here)) is not None
    ]
    x = depth_axis(found.n_blocks, [here.block for here in found.geometry])
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
        "params": [visible, quantity],
        "width": "container",
        "height": 220,
        "data": {"values": values},
        "layer": [*marked(found, x), *({"transform": [keep, of_quantity], **layer} for layer in layers)],
    }


def _value(n_blocks: int, here: BlockGeometry, name: str, label: str, value: float) -> Spec:
    interval = here.auroc.interval if name == "auroc" else None
    low, high = interval or (value, value)
    figure = f"{value:.3g}" if interval is None else f"{value:.3f} [{low:.3f}, {high:.3f}], n = {here.auroc.n}"
    return {
        "series": "geometry",
        "quantity": name,
        "x": depth(here.block, n_blocks),
        "y": value,
        "low": low,
        "high": high,
        "tip": tip(block_name(here.block, n_blocks), f"{label}: {figure}"),
    }


def _table(found: Localisation) -> Table:
    rows = [(str(here.block), f"{depth(here.block, found.n_blocks):.0f}", *_cells(here)) for here in found.geometry]
    caption = "Angles in degrees: to the subspace of the block before, and of RFA's direction to PCA-OT's subspace."
    return Table(("block", "depth %", *(head for _, _, head, _ in _QUANTITIES)), tuple(rows), caption)


def _cells(here: BlockGeometry) -> list[str]:
    low, high = here.auroc.bounds
    rest = [number(_quantity(name, here), digits) for name, _, _, digits in _QUANTITIES[1:]]
    return [f"{here.auroc.value:.2f} [{low:.2f}, {high:.2f}]", *rest]
