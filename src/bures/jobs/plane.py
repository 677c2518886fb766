"""A two-dimensional view of what a map does: held-out activations before and after it, and the fitted Gaussians.

The plane is spanned by the first two principal components of the pooled fit activations at a block (those that PCA-OT
itself works in). Gaussians are those of the fit split, points those of prompts that no map was fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from bures.errors import FitError
from bures.models.intervention import Intervention
from bures.results.records import Gaussian, Point, View
from bures.results.schema import Row
from bures.transport.linalg import principal_subspace

DIGITS = 4
"""Significant digits of the coordinates, as results keep them."""


def view(
    row: str,
    block: int,
    intervention: Intervention,
    fit: Mapping[str, Float[Tensor, "n d"]],
    held_out: Mapping[str, Float[Tensor, "m d"]],
) -> View:
    """The view of a map on one block's output.

    Args:
        row: key of the table's row.
        block: the block.
        intervention: its map is applied at its strength.
        fit: `harmful` and `harmless` activations of the fit split after the block.
        held_out: the same of other prompts.

    Raises:
        FitError: fewer than two activations on a side of the fit split, activations of a width below 2, or what the
            map makes of them is not finite.
    """
    source, target = fit["harmful"].double().cpu(), fit["harmless"].double().cpu()
    if min(len(source), len(target)) < 2 or source.shape[1] < 2:
        raise FitError(
            f"{len(source)} and {len(target)} fit prompts of width {source.shape[1]}; expected 2 or more of each"
        )
    pooled = torch.cat([source, target])
    mu = pooled.mean(dim=0)
    axes, _ = principal_subspace(pooled - mu, 2)
    variance = float((pooled - mu).square().sum())
    along = ((pooled - mu) @ axes).square().sum(dim=0) / max(variance, torch.finfo(torch.float64).tiny)

    def moved(rows: Tensor) -> Tensor:
        map_ = intervention.maps[block]
        return rows + intervention.strength * (map_(rows.float()).double() - rows)

    def planes(sides: Mapping[str, Tensor]) -> dict[str, Tensor]:
        rows = {name: side.double().cpu() for name, side in sides.items()}
        found = {**rows, "moved": moved(rows["harmful"])}
        return {name: (each - mu) @ axes for name, each in found.items()}

    flat, held = planes(fit), planes(held_out)
    apart = [side.double().cpu() for side in (held_out["harmful"], held_out["harmless"])]
    if not all(bool(torch.isfinite(each).all()) for each in (*flat.values(), *held.values())):
        raise FitError("the map sends activations to infinity; lower the strength or the rank")
    return View(
        row,
        block,
        cast("Point", tuple(_rounded(along))),
        {name: _gaussian(each) for name, each in flat.items()},
        {name: tuple(cast("Point", tuple(_rounded(p))) for p in each) for name, each in held.items()},
        _distances(apart[0], moved(apart[0]), apart[1]),
    )


def _distances(source: Tensor, moved: Tensor, target: Tensor) -> Point | None:
    """Energy distances to the target, before and after; None where a side has less than two rows."""
    if min(len(source), len(target)) < 2:
        return None
    before, after = _rounded(torch.stack([energy_distance(rows, target) for rows in (source, moved)]))
    return before, after


def energy_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|) over the rows, each of the last two over distinct rows; 0 if negative.

    Source: Szekely and Rizzo, Energy statistics, J. Stat. Plan. Inference 143 (2013); unbiased before the root.
    """
    n, m = len(x), len(y)
    within = torch.cdist(x, x).sum() / (n * (n - 1)) + torch.cdist(y, y).sum() / (m * (m - 1))
    return (2.0 * torch.cdist(x, y).mean() - within).clamp(min=0.0).sqrt()


def about_leading_away(rows: Sequence[Row]) -> list[str]:
    """Says of maps that carry held-out prompts away from where they should go."""
    found = [(row, row.view.distances) for row in rows if row.view is not None and row.view.leads_away]
    return [
        f"{row.label} at {row.sites} (^) carries harmful activations that it was not fitted on away from the harmless "
        f"ones (energy distance {d[0]:.3g} before it, {d[1]:.3g} after it, selection split, without an interval): "
        "perhaps too few fit prompts for its K, too great a strength, a map that is no transport, or chance."
        for row, d in found
        if d is not None
    ]


def _gaussian(rows: Tensor) -> Gaussian:
    mean = rows.mean(dim=0)
    covariance = (rows - mean).T @ (rows - mean) / (len(rows) - 1)
    xx, xy, yy = _rounded(torch.stack([covariance[0, 0], covariance[0, 1], covariance[1, 1]]))
    return Gaussian(cast("Point", tuple(_rounded(mean))), (xx, xy, yy))


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{x:.{DIGITS}g}") for x in values.tolist()]
