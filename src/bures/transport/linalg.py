"""Linear algebra of the Bures-Wasserstein geometry, all of it in float64.

    psd_power                   M^p of a symmetric positive semidefinite M, by `eigh` with a relative cutoff
    monge_matrix                A = S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2, so that A S A = T
    principal_subspace          leading right singular vectors, without any d x d matrix when n < d
    bures_wasserstein_distance  2-Wasserstein distance between two Gaussians

References: Bhatia, Jain and Lim, "On the Bures-Wasserstein distance between positive definite matrices" (2019);
Peyre and Cuturi, "Computational Optimal Transport" (2019), remark 2.31.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bures.errors import FitError

SINGULAR_RTOL = 1e-12
"""A covariance whose smallest eigenvalue is at most this share of its largest has no usable inverse in float64."""

_EPS = torch.finfo(torch.float64).eps
_lapack = cast(Any, torch.linalg)  # torch ships no types for it


def vector_norm(vector: Float[Tensor, "*shape"]) -> float:
    """Square root of the sum of squares of all entries, in float64."""
    return float(_lapack.vector_norm(vector, dtype=torch.float64))


def orthonormal(M: Float64[Tensor, "n m"]) -> tuple[Float64[Tensor, "n m"], Float64[Tensor, "m m"]]:
    """QR decomposition: M = basis triangle, orthonormal columns, for n >= m."""
    basis, triangle = _lapack.qr(M)
    return basis, triangle


def _svd(M: Float64[Tensor, "n m"]) -> tuple[Tensor, Float64[Tensor, " r"], Tensor]:
    """Thin singular value decomposition: M = left diag(singular) right, singular values descending."""
    left, singular, right = _lapack.svd(M, full_matrices=False)
    return left, singular, right


def _eigh(M: Float[Tensor, "k k"]) -> tuple[Float64[Tensor, " k"], Float64[Tensor, "k k"]]:
    """Ascending eigenvalues and eigenvectors of the symmetric part of M.

    Raises:
        FitError: M has NaN or infinite entries, or an eigenvalue that is negative beyond rounding.
    """
    M64 = M.to(torch.float64)
    if not bool(torch.isfinite(M64).all()):
        raise FitError(
            "The matrix has NaN or infinite entries; a finite covariance was expected: check the activations."
        )
    symmetric = (M64 + M64.mT) / 2
    values, vectors = cast(tuple[Tensor, Tensor], _lapack.eigh(symmetric))
    smallest, scale = float(values[0]), float(values.abs().max())
    if smallest < -math.sqrt(_EPS) * scale:
        raise FitError(
            f"The matrix has the negative eigenvalue {smallest:.3g} (largest {scale:.3g}); "
            "a positive semidefinite covariance was expected: check how it was computed."
        )
    return values, vectors


def psd_power(M: Float[Tensor, "k k"], power: float, *, rtol: float | None = None) -> Float64[Tensor, "k k"]:
    """M^power of a symmetric positive semidefinite matrix.

    Eigenvalues of at most `rtol` times the largest one count as zero and stay zero: a negative power is the power
    of the pseudo-inverse, and power 0 is the projector onto the range.

    Args:
        M: symmetric positive semidefinite (k, k); only its symmetric part is read.
        power: any real exponent.
        rtol: relative cutoff; the default is 10 k eps, with eps that of float64.

    Returns:
        A symmetric float64 matrix on the device of M.

    Raises:
        FitError: M is not finite or not positive semidefinite.
    """
    values, vectors = _eigh(M)
    cutoff = (10 * len(values) * _EPS if rtol is None else rtol) * values.clamp_min(0).max()
    kept = values > cutoff
    powers = torch.where(kept, torch.where(kept, values, 1.0) ** power, 0.0)
    root = (vectors * powers) @ vectors.mT
    return (root + root.mT) / 2


def monge_matrix(S: Float[Tensor, "k k"], T: Float[Tensor, "k k"]) -> Float64[Tensor, "k k"]:
    """The symmetric matrix of the optimal transport map from N(0, S) to N(0, T).

    A = S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2 is the only symmetric positive semidefinite A with A S A = T (and positive
    definite when T is). The inner root is taken through the singular value decomposition T^1/2 S^1/2 = W D Z', which
    gives (S^1/2 T S^1/2)^1/2 = Z D Z' without squaring the condition number.

    Args:
        S: source covariance, positive definite (k, k).
        T: target covariance, positive semidefinite (k, k).

    Raises:
        FitError: S is singular (smallest eigenvalue at most `SINGULAR_RTOL` times the largest), so that no such map
            exists; or S or T is not finite or not positive semidefinite.
    """
    values, vectors = _eigh(S)
    if float(values[0]) <= SINGULAR_RTOL * float(values[-1]):
        raise FitError(
            f"The source covariance is singular (eigenvalues from {float(values[0]):.3g} to {float(values[-1]):.3g}), "
            "so no transport map exists; a positive definite one was expected: "
            "use a ridge above 0, a smaller rank or more varied source rows."
        )
    root = (vectors * values.sqrt()) @ vectors.mT
    inverse_root = (vectors * values.rsqrt()) @ vectors.mT
    _, D, Zt = _svd(psd_power(T, 0.5, rtol=0.0).to(root.device) @ root)
    factor = inverse_root @ Zt.mT
    A = (factor * D) @ factor.mT
    return (A + A.mT) / 2


def principal_subspace(
    centered: Float[Tensor, "n d"], rank: int
) -> tuple[Float64[Tensor, "d {rank}"], Float64[Tensor, " {rank}"]]:
    """The `rank` leading right singular vectors of a row-centred matrix, with their singular values.

    A Householder QR of the matrix (or of its transpose when n < d) comes first and the singular value decomposition
    runs on the small triangle, so the largest square matrix is min(n, d) on a side. Unlike the Gram matrix this keeps
    singular values down to eps, rather than sqrt(eps), times the largest, and V is orthonormal for rank-deficient
    rows too (its surplus columns are then an arbitrary completion).

    Each column's sign makes its entry of largest magnitude positive, and the first k columns do not depend on `rank`.

    Args:
        centered: rows (n, d), already centred; centring is the caller's choice and is not repeated here.
        rank: number of directions, 1 to min(n, d).

    Returns:
        V (d, rank) with orthonormal columns and the singular values (rank,) in descending order.

    Raises:
        FitError: the rank is out of range, or a row is not finite.
    """
    n, d = centered.shape
    if not 1 <= rank <= min(n, d):
        raise FitError(f"Rank {rank} is not between 1 and min(n, d) = {min(n, d)} for {n} rows of width {d}.")
    rows = centered.to(torch.float64)
    if not bool(torch.isfinite(rows).all()):
        raise FitError("The rows have NaN or infinite entries; finite activations were expected.")
    if n < d:
        basis, triangle = cast(tuple[Tensor, Tensor], _lapack.qr(rows.mT))
        left, singular, _ = _svd(triangle)
        directions = basis @ left
    else:
        triangle = cast(Tensor, _lapack.qr(rows, mode="r")[1])
        _, singular, right = _svd(triangle)
        directions = right.mT
    peaks = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    V = directions * torch.where(peaks < 0, -1.0, 1.0)
    return V[:, :rank].contiguous(), singular[:rank].contiguous()


def bures_wasserstein_distance(
    mean_a: Float[Tensor, " k"], cov_a: Float[Tensor, "k k"], mean_b: Float[Tensor, " k"], cov_b: Float[Tensor, "k k"]
) -> float:
    """2-Wasserstein distance between N(mean_a, cov_a) and N(mean_b, cov_b), in the units of the means.

    The covariance part tr(A + B - 2 (A^1/2 B A^1/2)^1/2) is computed as min over orthogonal U of
    |A^1/2 - B^1/2 U|_F^2 (Bhatia, Jain and Lim 2019, theorem 1), which does not cancel when A is close to B.

    Raises:
        FitError: a covariance is not finite or not positive semidefinite.
    """
    root_a, root_b = psd_power(cov_a, 0.5, rtol=0.0), psd_power(cov_b, 0.5, rtol=0.0)
    W, _, Zt = _svd(root_b @ root_a)
    spread = vector_norm(root_a - root_b @ W @ Zt)
    return math.hypot(vector_norm(mean_a.to(torch.float64) - mean_b.to(torch.float64)), spread)
