"""Logistic regression with a normal prior, on standardised features and, beside them, on sparse ones as they are."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize as _untyped_minimize  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from scipy.special import expit as _untyped_expit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from bures.judges.trained import Head

_minimize, _expit = cast(Any, _untyped_minimize), cast(Any, _untyped_expit)  # scipy ships no types

Floats = NDArray[np.float64]


def fit(x: Floats, y: Floats, weight: Floats | None, strength: float) -> Head:
    """Weighted logistic regression with an L2 prior on standardised features.

    Args:
        x: features, (n, k).
        y: labels, 0 or 1, (n,).
        weight: of the rows, (n,); None: 1 each.
        strength: C, the inverse of the prior's precision.
    """
    return fit_with_runs(x, None, y, np.ones(len(y)) if weight is None else weight, strength)[0]


def fit_with_runs(x: Floats, runs: Any, y: Floats, weight: Floats, strength: float) -> tuple[Head, Floats]:
    """As `fit`, with sparse features beside the standardised ones.

    Args:
        x: features that are standardised, (n, k).
        runs: features that are taken as they come, a sparse (n, m); None: there are none.
        y: labels, 0 or 1, (n,).
        weight: of the rows, (n,).
        strength: C, the inverse of the prior's precision.

    Returns:
        The head on x as it comes, and the coefficients of the sparse features, (m,).
    """
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread == 0] = 1.0
    z, signs, k = (x - mean) / spread, 2 * y - 1, x.shape[1]

    def loss(theta: Floats) -> tuple[float, Floats]:
        own, others = theta[1 : k + 1], theta[k + 1 :]
        margins = signs * (z @ own + theta[0] + (0.0 if runs is None else runs @ others))
        pull = -weight * signs * _expit(-margins)
        value = weight @ np.logaddexp(0.0, -margins) + theta[1:] @ theta[1:] / (2 * strength)
        slopes = [[pull.sum()], z.T @ pull, [] if runs is None else runs.T @ pull]
        gradient = np.concatenate(slopes)
        gradient[1:] += theta[1:] / strength
        return float(value), gradient

    start = np.zeros(1 + k + (0 if runs is None else runs.shape[1]))
    options = {"maxiter": 1000, "gtol": 1e-6, "ftol": 1e-11}
    theta = _minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    coefficients = theta[1 : k + 1] / spread
    return Head(coefficients, float(theta[0] - coefficients @ mean)), theta[k + 1 :]
