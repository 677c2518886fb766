"""POT's Gaussian optimal transport, the oracle, with types."""

from __future__ import annotations

from typing import Any

import numpy as np
import ot
from numpy.typing import ArrayLike, NDArray

_gaussian: Any = ot.gaussian  # its signatures say that a tuple may come back, whatever `log` is


def distance(mean: ArrayLike, other_mean: ArrayLike, covariance: ArrayLike, other: ArrayLike) -> float:
    """The Bures-Wasserstein distance of two Gaussians, not squared."""
    return float(_gaussian.bures_wasserstein_distance(mean, other_mean, covariance, other))


def monge_map(
    mean: ArrayLike, other_mean: ArrayLike, covariance: ArrayLike, other: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A and b of x -> x A + b, which moves the first Gaussian to the second."""
    return _gaussian.bures_wasserstein_mapping(mean, other_mean, covariance, other)
