"""Over-refusal repair: falsely refused prompts are moved to answered ones, harmful ones stay where they are.

    T(h) = h + a w'h,   a = mean(Y) - mean(X)       X: falsely refused, Y: answered harmless, Z: harmful activations
    w    = u / u' mean(X),   u = P (P X'X P / n + ridge I)^-1 P mean(X)
    P    = projection on the eigenvectors of Z'Z / k with the smallest eigenvalues (uncentred, a share of all d)

u is the ridge regression of 1 on the rows of X within P, so w reads "falsely refused" where harmful activations have
next to nothing. By construction mean(X) moves onto mean(Y), and the root mean square move of the rows of Z is at most
|a| |w| sqrt(l), with l the largest eigenvalue in P.

AlphaSteer (Sheng et al. 2025, arXiv 2506.07022) reversed: there the null space is that of harmless prompts, and harmful
ones are steered to refusal. As every row has the same target, a, the map is of rank one; no d x d matrix is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bures.errors import FitError
from bures.transport._rows import as_pair
from bures.transport.base import LowRankAffine
from bures.transport.linalg import principal_subspace, vector_norm

DEFAULT_SHARE = 0.5
DEFAULT_REPAIR_RIDGE = 0.1

_NOTHING = 1e-9  # what is left of a mean below this share of it is rounding


def fit_repair(
    falsely_refused: Tensor,
    answered: Tensor,
    harmful: Tensor,
    *,
    share: float = DEFAULT_SHARE,
    ridge: float = DEFAULT_REPAIR_RIDGE,
) -> LowRankAffine:
    """Fit the map that moves falsely refused prompts to answered ones and leaves harmful ones where they are.

    Args:
        falsely_refused: rows X (n, d), activations of harmless prompts that are refused, any floating dtype.
        answered: rows Y (m, d) of harmless prompts that are answered.
        harmful: rows Z (k, d) of harmful prompts that are refused.
        share: of the d directions, how many P holds, those with the least harmful second moment first; above 0, less
            than 1. All directions without any are in P where k is small.
        ridge: added to the second moment of X within P, as a multiple of its mean eigenvalue there; above 0.

    Returns:
        A float64 map of kind "repair" on the device of `falsely_refused`. Its metadata hold the options, `n_source`,
        `n_target`, `n_harmful`, `mean_gap_norm` (|a|), and `harmful_move_bound`, what the root mean square move of the
        rows of Z is at most, in the units of the activations.

    Raises:
        FitError: rows are not finite (n, d) tensors of one width, the means coincide, an option is out of range, or
            nothing of the mean of X lies outside the harmful directions.
    """
    X, Y = as_pair(falsely_refused, answered)
    _, Z = as_pair(falsely_refused, harmful)
    if not 0.0 < share < 1.0 or not 0.0 < ridge < float("inf"):
        raise FitError(
            f"share is {share} and ridge {ridge}; a share above 0 and below 1 and a ridge above 0 are needed."
        )
    mean = X.mean(dim=0)
    gap = Y.mean(dim=0) - mean
    length = vector_norm(gap)
    if length <= _NOTHING * max(vector_norm(mean), vector_norm(Y.mean(dim=0))):
        raise FitError("The means of the falsely refused and the answered rows coincide, so there is nowhere to move.")
    read, bound = _reading(X, Z, share, ridge)
    weight = vector_norm(read)
    return LowRankAffine(
        kind="repair",
        mean=torch.zeros_like(mean),
        basis_in=(read / weight)[:, None],
        matrix=(weight * length) * torch.ones(1, 1, dtype=mean.dtype, device=mean.device),
        offset=torch.zeros_like(mean[:1]),
        basis_out=(gap / length)[:, None],
        metadata={
            "share": share,
            "ridge": ridge,
            "n_source": len(X),
            "n_target": len(Y),
            "n_harmful": len(Z),
            "mean_gap_norm": length,
            "harmful_move_bound": length * weight * bound,
        },
    )


def _reading(X: Tensor, Z: Tensor, share: float, ridge: float) -> tuple[Tensor, float]:
    """w, and the root of the largest harmful second moment that P lets through."""
    d, rank = Z.shape[1], min(Z.shape)
    directions, singular = principal_subspace(Z, rank)
    n_out = min(rank, d - max(1, int(share * d)))
    out = directions[:, :n_out]
    rows = X - (X @ out) @ out.mT
    mean = rows.mean(dim=0)
    if vector_norm(mean) <= _NOTHING * vector_norm(X.mean(dim=0)):
        raise FitError(
            "Nothing of the mean of the falsely refused rows lies outside the harmful directions; a larger share, or "
            "another block, is needed."
        )
    own, sizes = principal_subspace(rows, min(rows.shape))
    moments = sizes.square() / len(rows)
    u = own @ ((own.mT @ mean) / (moments + ridge * moments.sum() / (d - n_out)))
    through = float(singular[n_out]) / len(Z) ** 0.5 if n_out < rank else 0.0
    return u / (u @ X.mean(dim=0)), through
