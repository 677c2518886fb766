"""Mean and covariance of activations that arrive in batches.

Two types: `MomentAccumulator` is mutable and gathers; `Moments` is frozen and holds the result. The update is the
pairwise one of Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances"
(1979), in float64, so neither the batching nor the order of merges matters beyond rounding:

    n = n_a + n_b,   delta = mean_b - mean_a
    mean = mean_a + delta n_b / n
    M2 = M2_a + M2_b + delta delta' n_a n_b / n

Covariances are divided by n (not n - 1), as everywhere in this package.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from bures.errors import FitError


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of n rows of width d; covariance and variance are divided by n.

    `covariance` is None when the accumulator was told not to gather it; `variance` is always there.
    """

    n: int
    mean: Float64[Tensor, " d"]
    covariance: Float64[Tensor, "d d"] | None
    variance: Float64[Tensor, " d"]


class MomentAccumulator:
    """Streaming moments of rows of width `dim`, in float64 on `device`.

    With `covariance=False` only the per-coordinate variance is kept and no (dim, dim) matrix is ever allocated.
    """

    def __init__(self, dim: int, *, covariance: bool = True, device: torch.device | str = "cpu") -> None:
        if dim < 1:
            raise FitError(f"The width of the rows must be at least 1, got {dim}.")
        self.dim = dim
        self.covariance = covariance
        self.device = torch.device(device)
        self.n = 0
        self._mean = torch.zeros(dim, dtype=torch.float64, device=self.device)
        shape = (dim, dim) if covariance else (dim,)
        self._m2 = torch.zeros(shape, dtype=torch.float64, device=self.device)

    def update(self, rows: Tensor) -> None:
        """Take in rows "n d" of any floating dtype; no rows at all changes nothing.

        Raises:
            FitError: the shape is not (n, dim), or a row has NaN or infinite entries. Nothing is taken in then.
        """
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise FitError(f"Rows of shape (n, {self.dim}) were expected, got {tuple(rows.shape)}.")
        if len(rows) == 0:
            return
        rows64 = rows.detach().to(device=self.device, dtype=torch.float64)
        finite = torch.isfinite(rows64).all(dim=1)
        if not bool(finite.all()):
            bad = int((~finite).nonzero()[0])
            raise FitError(
                f"Row {bad} of this batch ({self.n + bad} of all) has NaN or infinite entries; finite activations "
                "were expected: run the model in float32 or bfloat16."
            )
        mean = rows64.mean(dim=0)
        centered = rows64 - mean
        m2 = centered.mT @ centered if self.covariance else centered.square().sum(dim=0)
        self._absorb(len(rows64), mean, m2)

    def merge(self, other: MomentAccumulator) -> None:
        """Take in everything `other` has gathered; `other` stays as it was.

        Raises:
            FitError: the two differ in width or in whether they gather covariances.
        """
        if (self.dim, self.covariance) != (other.dim, other.covariance):
            raise FitError(
                f"Accumulators of width {self.dim} (covariance={self.covariance}) and {other.dim} "
                f"(covariance={other.covariance}) cannot be merged; make both alike."
            )
        if other.n:
            self._absorb(other.n, other._mean.to(self.device), other._m2.to(self.device))

    def finish(self) -> Moments:
        """The moments of everything so far; the accumulator can go on.

        Raises:
            FitError: no row was taken in.
        """
        if self.n == 0:
            raise FitError("There are no moments of no rows; at least one row of activations was expected.")
        second = self._m2 / self.n
        if self.covariance:
            covariance = (second + second.mT) / 2
            return Moments(self.n, self._mean.clone(), covariance, covariance.diagonal().clone())
        return Moments(self.n, self._mean.clone(), None, second)

    def _absorb(self, n: int, mean: Tensor, m2: Tensor) -> None:
        total = self.n + n
        delta = mean - self._mean
        product = torch.outer(delta, delta) if self.covariance else delta.square()
        self._m2 = self._m2 + m2 + product * (self.n * n / total)
        self._mean = self._mean + delta * (n / total)
        self.n = total
