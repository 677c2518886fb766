"""PCA-OT: the optimal transport map between two Gaussians, inside the leading principal subspace.

Nanfack, Belilovsky and Dohmatob, "Efficient Refusal Ablation in LLM through Optimal Transport" (arXiv 2603.04355).

    X (n x d), Y (m x d)      activations of the source and of the target prompts
    mu                        mean of the rows of [X; Y]
    P (d x K)                 top-K right singular vectors of [X; Y] - mu
    z = P'(h - mu)            projected activation
    m_s, m_t                  means of the projected rows of each side
    S, T                      their covariances, each about its own mean, divided by n (m), regularised
    A = S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2        so that A S A = T, A symmetric positive definite
    T(h) = h + P [ m_t + A (z - m_s) - z ]

What is orthogonal to P is untouched. In the terms of `LowRankAffine`: U = V = P, M = A - I, c = m_t - A m_s.

Regularisation, in this order. Shrinkage towards (tr S / K) I by the intensity of Ledoit and Wolf ("A well-conditioned
estimator for large-dimensional covariance matrices", 2004) or OAS (Chen, Wiesel, Eldar and Hero, "Shrinkage algorithms
for MMSE covariance estimation", 2010, eq. 23 without its 2/p terms), both in the K-dimensional space and equal to
scikit-learn's; then the ridge, `ridge` (tr S / K) I. The paper states no ridge; the default of 1e-6 disturbs the
matched moments by about as much and bounds the condition number of S by 1e6 K. With ridge 0 and no shrinkage the
source rows' projected mean and covariance become exactly the target's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from bures.errors import FitError
from bures.transport._rows import as_pair
from bures.transport.base import LowRankAffine
from bures.transport.linalg import monge_matrix, principal_subspace, vector_norm
from bures.transport.summary import shift_of

DEFAULT_RIDGE = 1e-6

Shrinkage = Literal["ledoit-wolf", "oas"]


def fit_pca_ot(
    source: Tensor, target: Tensor, rank: int = 2, *, ridge: float = DEFAULT_RIDGE, shrinkage: Shrinkage | None = None
) -> LowRankAffine:
    """Fit the PCA-OT map that carries the source activations onto the target ones (formulas above).

    Args:
        source: rows X (n, d) that the map will move, any floating dtype.
        target: rows Y (m, d) whose mean and covariance they shall take.
        rank: dimension K of the subspace; the paper uses 1 or 2. At most d, n - 1 and m - 1.
        ridge: added to the diagonal of each covariance, as a multiple of its mean variance; 0.0 is allowed.
        shrinkage: None, "ledoit-wolf" or "oas", applied to each covariance before the ridge.

    Returns:
        A float64 map of kind "pca-ot" on the device of `source`. Its metadata hold the options and
        `n_source`, `n_target`;
        `mean_gap_share`, the share |P'g|^2 / |g|^2 of the squared mean gap g = mean(X) - mean(Y) that lies in the
        subspace, and `mean_gap_cosine`, its square root (both null when the means coincide);
        `explained_variance_ratio`, the share of the pooled variance on each of the K directions;
        `shrinkage_source` and `shrinkage_target`, the intensities (0 without shrinkage); `shift_norm` and
        `shift_cosine` (see `bures.transport.summary`).

    Raises:
        FitError: the rows are not finite (n, d) tensors of one width, the rank is out of range, an option is invalid,
            or S is singular (a ridge above 0 is the usual cure).
    """
    return fit_pca_ot_path(source, target, [rank], ridge=ridge, shrinkage=shrinkage)[rank]


def fit_pca_ot_path(
    source: Tensor,
    target: Tensor,
    ranks: Sequence[int],
    *,
    ridge: float = DEFAULT_RIDGE,
    shrinkage: Shrinkage | None = None,
) -> dict[int, LowRankAffine]:
    """`fit_pca_ot` at several ranks for the price of one decomposition; equal to separate fits bit for bit.

    Returns:
        Rank -> map, in the order of `ranks`.

    Raises:
        FitError: as `fit_pca_ot`, or `ranks` is empty.
    """
    X, Y = as_pair(source, target)
    _check_options(X, Y, ranks, ridge, shrinkage)
    n, m = len(X), len(Y)
    mean_X, mean_Y = X.mean(dim=0), Y.mean(dim=0)
    pooled = torch.cat([X, Y])
    mu = pooled.mean(dim=0)
    pooled = pooled - mu
    basis, singular = principal_subspace(pooled, max(ranks))
    explained = [float(ratio) for ratio in (singular.square() / pooled.square().sum()).nan_to_num()]
    options = {"ridge": ridge, "shrinkage": shrinkage, "n_source": n, "n_target": m}
    maps: dict[int, LowRankAffine] = {}
    for rank in ranks:
        P = basis[:, :rank].contiguous()
        diagnostics = {**_mean_gap(P, mean_X - mean_Y), "explained_variance_ratio": explained[:rank]}
        m_s, S, alpha_s = _gaussian((X - mu) @ P, ridge, shrinkage)
        m_t, T, alpha_t = _gaussian((Y - mu) @ P, ridge, shrinkage)
        A = monge_matrix(S, T)
        maps[rank] = LowRankAffine(
            kind="pca-ot",
            mean=mu,
            basis_in=P,
            matrix=A - torch.eye(rank, dtype=A.dtype, device=A.device),
            offset=m_t - A @ m_s,
            basis_out=P,
            metadata={
                "rank": rank,
                **options,
                **diagnostics,
                **shift_of(P @ (m_t - m_s), mean_Y - mean_X),
                "shrinkage_source": alpha_s,
                "shrinkage_target": alpha_t,
            },
        )
    return maps


def ledoit_wolf_intensity(centered: Float64[Tensor, "n k"]) -> float:
    """Ledoit and Wolf's (2004) share of the scaled identity, for rows already centred about their mean; 0 for k = 1."""
    n, k = centered.shape
    S = centered.mT @ centered / n
    spread = float(S.square().sum() - S.trace().square() / k)  # |S - mu I|^2
    noise = (float(centered.square().sum(dim=1).square().sum()) / n - float(S.square().sum())) / n
    if k == 1 or spread <= 0:
        return 0.0
    return min(max(noise, 0.0), spread) / spread


def ledoit_wolf_covariance(rows: Float64[Tensor, "n k"]) -> tuple[Float64[Tensor, " k"], Float64[Tensor, "k k"]]:
    """Mean and Ledoit-Wolf covariance (divided by n) of rows."""
    mean, covariance, _ = _gaussian(rows, 0.0, "ledoit-wolf")
    return mean, covariance


def oas_intensity(centered: Float64[Tensor, "n k"]) -> float:
    """Chen et al.'s (2010) share of the scaled identity, without their 2/p terms, as in scikit-learn; 0 for k = 1."""
    n, k = centered.shape
    S = centered.mT @ centered / n
    square, trace_square = float(S.square().sum()), float(S.trace().square())
    spread = square - trace_square / k
    if k == 1:
        return 0.0
    return 1.0 if spread <= 0 else min((square + trace_square) / ((n + 1) * spread), 1.0)


_INTENSITIES: Mapping[str | None, Callable[[Tensor], float]] = {
    None: lambda centered: 0.0,
    "ledoit-wolf": ledoit_wolf_intensity,
    "oas": oas_intensity,
}


def _gaussian(
    z: Float64[Tensor, "n k"], ridge: float, shrinkage: Shrinkage | None
) -> tuple[Float64[Tensor, " k"], Float64[Tensor, "k k"], float]:
    """Mean, regularised covariance (divided by n) and shrinkage intensity of projected rows."""
    mean = z.mean(dim=0)
    centered = z - mean
    covariance = centered.mT @ centered / len(z)
    alpha = _INTENSITIES[shrinkage](centered)
    scale = covariance.diagonal().mean() * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return mean, (1 - alpha) * covariance + (alpha + ridge) * scale, alpha


def _mean_gap(P: Float64[Tensor, "d k"], gap: Float64[Tensor, " d"]) -> dict[str, float | None]:
    total = vector_norm(gap)
    if total == 0:
        return {"mean_gap_share": None, "mean_gap_cosine": None}
    cosine = vector_norm(gap @ P) / total
    return {"mean_gap_share": cosine**2, "mean_gap_cosine": cosine}


def _check_options(X: Tensor, Y: Tensor, ranks: Sequence[int], ridge: float, shrinkage: Shrinkage | None) -> None:
    if not ranks:
        raise FitError("No rank was given; at least one was expected.")
    if min(ranks) < 1:
        raise FitError(f"The rank must be at least 1, got K = {min(ranks)}.")
    rank = max(ranks)
    if rank > X.shape[1]:
        raise FitError(f"The rank K = {rank} is larger than the width d = {X.shape[1]}; use a smaller rank.")
    for side, rows in (("source", X), ("target", Y)):
        if rank > len(rows) - 1:
            raise FitError(
                f"The rank K = {rank} is larger than n - 1 = {len(rows) - 1} for the {len(rows)} {side} rows; "
                "use a smaller rank or more prompts."
            )
    if not 0 <= ridge < float("inf"):
        raise FitError(f"The ridge must be a finite number of at least 0, got {ridge}.")
    if shrinkage not in _INTENSITIES:
        raise FitError(f'Unknown shrinkage "{shrinkage}"; use None, "ledoit-wolf" or "oas".')
