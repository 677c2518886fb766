"""Linear-AcT: one-dimensional affine optimal transport, coordinate by coordinate.

Rodriguez et al., "Controlling Language and Diffusion Models by Transporting Activations" (arXiv 2410.23054).

    x~, y~ = the source and target values of one coordinate, both sorted (the optimal coupling in one dimension)
    w = cov(x~, y~) / var(x~),   b = mean(y) - w mean(x)
    T(h) = w h + b,   with `interval` only where min(x) <= h <= max(x)

(w, b) is the least-squares line through the coupled pairs. With n = m the pairs are (x~_i, y~_i). With n != m the
coupling of the two empirical distributions splits rows: between two neighbouring multiples of 1/n and 1/m both
quantile functions are constant, and the piece counts with its length. That is the same as repeating every row up to
the least common multiple of n and m, with no row discarded or interpolated, so mean(T(x)) = mean(y) always.

A coordinate that is constant on the source side has w = 1, that is a shift by the mean.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from bures.transport._rows import as_pair
from bures.transport.base import DiagonalAffine
from bures.transport.summary import shift_of


def fit_act(source: Tensor, target: Tensor, *, interval: bool = False) -> DiagonalAffine:
    """Fit Linear-AcT from the source activations to the target ones (formulas above).

    Args:
        source: rows X (n, d) that the map will move, any floating dtype.
        target: rows Y (m, d).
        interval: leave a coordinate alone where it is outside the range that the source rows span.

    Returns:
        A float64 map of kind "linear-act" on the device of `source`; its metadata hold `interval`, `n_source`,
        `n_target`, `constant_coordinates` (how many have w = 1 for want of variance), and `shift_norm` and
        `shift_cosine` (see `bures.transport.summary`).

    Raises:
        FitError: the rows are not finite (n, d) tensors of one width.
    """
    X, Y = as_pair(source, target)
    sorted_X, sorted_Y = X.sort(dim=0).values, Y.sort(dim=0).values
    mean_X, mean_Y = X.mean(dim=0), Y.mean(dim=0)
    rows_X, rows_Y, lengths = _coupling(len(X), len(Y), X.device)
    x, y = (sorted_X - mean_X)[rows_X], (sorted_Y - mean_Y)[rows_Y]
    variance, covariance = lengths @ x.square(), lengths @ (x * y)
    constant = (sorted_X[0] == sorted_X[-1]) | (variance == 0)
    weight = torch.where(constant, 1.0, covariance / torch.where(constant, 1.0, variance))
    gap = mean_Y - mean_X  # inside the interval, where every source row is, the source's mean becomes the target's
    return DiagonalAffine(
        kind="linear-act",
        weight=weight,
        bias=mean_Y - weight * mean_X,
        low=sorted_X[0].clone() if interval else None,
        high=sorted_X[-1].clone() if interval else None,
        metadata={
            "interval": interval,
            "n_source": len(X),
            "n_target": len(Y),
            "constant_coordinates": int(constant.sum()),
            **shift_of(gap, gap),
        },
    )


def _coupling(
    n: int, m: int, device: torch.device
) -> tuple[Int64[Tensor, " pieces"], Int64[Tensor, " pieces"], Float64[Tensor, " pieces"]]:
    """Monotone coupling of n and m equal masses: sorted row of each side, and mass, of every piece.

    Cut points are counted in units of 1 / (n m), in whole numbers.
    """
    cuts = torch.cat([m * torch.arange(1, n + 1, device=device), n * torch.arange(1, m + 1, device=device)])
    ends = cast(Tensor, cast(Any, cuts).unique())
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return starts // m, starts // n, (ends - starts).to(torch.float64) / (n * m)
