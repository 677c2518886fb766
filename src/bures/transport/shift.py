"""Mean shift: every activation moves by the difference of the class means.

    T(h) = h + mean(Y) - mean(X)

Known as Mean-AcT (Rodriguez et al., arXiv 2410.23054) and, with one prompt a side, ActAdd (Turner et al., "Steering
Language Models With Activation Engineering", arXiv 2308.10248). It is the optimal map between Gaussians of equal
covariance. In the terms of `DiagonalAffine`: w = 1, b = mean(Y) - mean(X).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bures.transport._rows import as_pair
from bures.transport.base import DiagonalAffine
from bures.transport.linalg import vector_norm
from bures.transport.summary import shift_of


def fit_mean_shift(source: Tensor, target: Tensor) -> DiagonalAffine:
    """Fit the shift from the source mean to the target mean.

    Args:
        source: rows X (n, d) that the map will move, any floating dtype.
        target: rows Y (m, d).

    Returns:
        A float64 map of kind "mean-shift" on the device of `source`; its metadata hold `mean_gap_norm`, `n_source`,
        `n_target`, and `shift_norm` and `shift_cosine` (see `bures.transport.summary`).

    Raises:
        FitError: the rows are not finite (n, d) tensors of one width.
    """
    X, Y = as_pair(source, target)
    shift = Y.mean(dim=0) - X.mean(dim=0)
    return DiagonalAffine(
        kind="mean-shift",
        weight=torch.ones_like(shift),
        bias=shift,
        metadata={
            "mean_gap_norm": vector_norm(shift),
            "n_source": len(X),
            "n_target": len(Y),
            **shift_of(shift, shift),
        },
    )
