"""Directional ablation: the component of an activation along one direction is removed.

    r  = mean(X) - mean(Y),   r^ = r / |r|       X: source (harmful), Y: target (harmless) activations
    T(h) = h - r^ r^' h                          refusal feature ablation
    T(h) = h - r^ r^' h + r^ r^' mean(Y)         variant that puts the target's mean component back
    T(h) = h - Q Q' h                            several directions at once, Q an orthonormal basis of them

Arditi et al., "Refusal in Language Models Is Mediated by a Single Direction" (arXiv 2406.11717, eq. 4), use one
direction at every site (`ablate_direction`); Yu et al., "Robust LLM safeguarding via refusal feature adversarial
training" (2024), one direction for each layer (`fit_rfa` at each).

In the terms of `LowRankAffine`: U = V = r^, M = -1, mu = 0, c = 0 or r^' mean(Y).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bures.errors import FitError
from bures.transport._rows import as_pair
from bures.transport.base import LowRankAffine
from bures.transport.linalg import orthonormal, vector_norm
from bures.transport.summary import shift_of

_COINCIDE = 1e-12  # mean gaps below this share of the means' size are rounding
_DEPENDENT = 1e-9  # the part of a unit direction that is new, below which it is rounding


def fit_rfa(source: Tensor, target: Tensor, *, add_target_mean: bool = False) -> LowRankAffine:
    """Ablate the difference of the class means.

    Args:
        source: rows X (n, d) that the map will move, any floating dtype.
        target: rows Y (m, d).
        add_target_mean: put r^' mean(Y) back along the direction.

    Returns:
        A float64 map of kind "rfa" on the device of `source`; its metadata hold `add_target_mean`, `mean_gap_norm`
        (|r|, in the units of the activations), `n_source`, `n_target`, and `shift_norm` and `shift_cosine` (see
        `bures.transport.summary`).

    Raises:
        FitError: the rows are not finite (n, d) tensors of one width, or the means coincide.
    """
    X, Y = as_pair(source, target)
    mean_X, mean_Y = X.mean(dim=0), Y.mean(dim=0)
    gap = mean_X - mean_Y
    norm = vector_norm(gap)
    if norm <= _COINCIDE * max(vector_norm(mean_X), vector_norm(mean_Y)):
        raise FitError(
            "The source and target means coincide, so there is no direction to ablate; "
            "check that the two sides hold different prompts."
        )
    direction = gap / norm
    metadata = {
        "add_target_mean": add_target_mean,
        "mean_gap_norm": norm,
        "n_source": len(X),
        "n_target": len(Y),
        **shift_of(-gap if add_target_mean else -(direction @ mean_X) * direction, -gap),
    }
    return _ablation("rfa", direction, direction @ mean_Y if add_target_mean else None, metadata)


def ablate_direction(direction: Tensor) -> LowRankAffine:
    """h - r^ r^' h for a given direction (d,), of any length above 0; kind "ablation".

    Raises:
        FitError: the direction is not a finite, non-zero floating vector.
    """
    if direction.ndim != 1 or not direction.dtype.is_floating_point:
        raise FitError(
            f"A direction of shape (d,) and floating dtype was expected, got {tuple(direction.shape)} "
            f"of {direction.dtype}."
        )
    vector = direction.detach().to(torch.float64)
    norm = vector_norm(vector)
    if not 0 < norm < float("inf"):
        raise FitError(f"A finite direction of length above 0 was expected, got length {norm}.")
    return _ablation("ablation", vector / norm, None, {"direction_norm": norm})


def ablate_subspace(directions: Tensor) -> LowRankAffine:
    """h - Q Q' h, Q from the QR decomposition of given directions (d, k) of any lengths above 0; kind "ablation".

    Raises:
        FitError: the directions are no finite floating matrix of independent columns.
    """
    if directions.ndim != 2 or not directions.dtype.is_floating_point or not 0 < directions.shape[1] <= len(directions):
        raise FitError(
            "Directions of shape (d, k) and floating dtype were expected, 1 to d of them, got "
            f"{tuple(directions.shape)} of {directions.dtype}."
        )
    columns = directions.detach().to(torch.float64)
    columns = columns / columns.pow(2).sum(dim=0).sqrt()
    basis, triangle = orthonormal(columns)
    if not bool(torch.isfinite(columns).all()) or float(triangle.diagonal().abs().min()) <= _DEPENDENT:
        raise FitError("The directions are not finite, or one of them lies in the span of those before it.")
    k = basis.shape[1]
    return LowRankAffine(
        kind="ablation",
        mean=torch.zeros_like(basis[:, 0]),
        basis_in=basis,
        matrix=-torch.eye(k, dtype=basis.dtype, device=basis.device),
        offset=torch.zeros_like(basis[0]),
        basis_out=basis,
        metadata={"n_directions": k},
    )


def _ablation(kind: str, unit: Tensor, component: Tensor | None, metadata: Mapping[str, object]) -> LowRankAffine:
    column = unit.unsqueeze(1)
    return LowRankAffine(
        kind=kind,
        mean=torch.zeros_like(unit),
        basis_in=column,
        matrix=-torch.ones(1, 1, dtype=unit.dtype, device=unit.device),
        offset=torch.zeros_like(unit[:1]) if component is None else component.reshape(1),
        basis_out=column,
        metadata=metadata,
    )
