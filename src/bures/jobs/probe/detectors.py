"""Detectors of harmful prompts: how each one turns activations of two sides into a score, the higher the more harmful.

    X (n x d), Y (m x d)      activations of the harmful and of the harmless prompts; means m_s, m_t
    difference-of-means       (h - (m_s + m_t) / 2)'g / |g|, g = m_s - m_t (Marks and Tegmark, arXiv 2310.06824)
    lda                       (h - (m_s + m_t) / 2)'S^-1 g, with S the shrunk covariance within the sides, pooled
                              (Fisher 1936; shrinkage by Ledoit and Wolf 2004)
    gaussian                  log N(z; m_s, S_s) - log N(z; m_t, S_t) for z = P'(h - mu) along the first K principal
                              components of both sides, each covariance shrunk (quadratic discriminant; McLachlan 1992)
    one-class                 squared Mahalanobis distance (h - m_t)'T^-1(h - m_t) to the harmless prompts alone, T
                              shrunk (Lee et al., arXiv 1807.03888): fitted without a single harmful prompt
    logistic                  log-odds of a logistic regression on standardised activations with a normal prior: the
                              reference

Scores are no probabilities. A shrunk covariance (1 - a) C + a (tr C / d) I of n rows is the identity plus low rank, so
its inverse is applied without a d x d matrix. Prior odds are even: numbers of prompts say nothing of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bures.errors import FitError
from bures.judges.regression import fit as fit_regression
from bures.transport import ledoit_wolf_covariance
from bures.transport.linalg import principal_subspace, psd_power, vector_norm

COMPONENTS = 8
"""Principal components of the Gaussian detector, where the prompts allow as many."""

STRENGTH = 1.0
"""C of the logistic regression: the inverse of the prior's precision."""


@dataclass(frozen=True, eq=False)
class Detector:
    """A score s(h) = a |h - mu|^2 + z'M z + w'(h - mu) + b with z = P'(h - mu): all detectors have this form.

    Attributes:
        kind: which one it is.
        mean: mu, (d,).
        direction: w, (d,).
        basis: P, (d, k) with orthonormal columns; k is 0 for a linear one.
        matrix: M, symmetric (k, k).
        isotropic: a.
        bias: b.
    """

    kind: str
    mean: Float64[Tensor, " d"]
    direction: Float64[Tensor, " d"]
    basis: Float64[Tensor, "d k"]
    matrix: Float64[Tensor, "k k"] = field(default_factory=lambda: torch.zeros((0, 0), dtype=torch.float64))
    isotropic: float = 0.0
    bias: float = 0.0

    def score(self, h: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
        """The score of every row, the higher the more harmful."""
        x = h.to(self.mean) - self.mean
        z = x @ self.basis
        quadratic = (z @ self.matrix * z).sum(dim=1)
        return self.isotropic * x.square().sum(dim=1) + quadratic + x @ self.direction + self.bias


def fit_detector(kind: str, harmful: Float[Tensor, "n d"], harmless: Float[Tensor, "m d"]) -> Detector:
    """The detector of a kind (formulas above).

    Raises:
        FitError: the rows are not finite, there are fewer than 2 on a side, or they are all alike.
    """
    X, Y = harmful.detach().double().cpu(), harmless.detach().double().cpu()
    if min(len(X), len(Y)) < 2:
        raise FitError(f"{len(X)} harmful and {len(Y)} harmless rows; expected at least 2 of each to fit a detector")
    if not bool(torch.isfinite(X).all() and torch.isfinite(Y).all()):
        raise FitError("The activations have NaN or infinite entries; a detector needs finite ones.")
    return KINDS[kind](X, Y)


def _linear(kind: str, mean: Tensor, direction: Tensor, bias: float = 0.0) -> Detector:
    return Detector(kind, mean, direction, mean.new_zeros((len(mean), 0)), bias=bias)


def _difference_of_means(X: Tensor, Y: Tensor) -> Detector:
    gap = X.mean(dim=0) - Y.mean(dim=0)
    length = vector_norm(gap)
    if length == 0:
        raise FitError("The means of both sides coincide; a direction between them was expected.")
    return _linear("difference-of-means", (X.mean(dim=0) + Y.mean(dim=0)) / 2, gap / length)


def _lda(X: Tensor, Y: Tensor) -> Detector:
    m_s, m_t = X.mean(dim=0), Y.mean(dim=0)
    within = Shrunk.of(torch.cat([X - m_s, Y - m_t]))
    return _linear("lda", (m_s + m_t) / 2, within.solve(m_s - m_t))


def _gaussian(X: Tensor, Y: Tensor) -> Detector:
    mu = torch.cat([X, Y]).mean(dim=0)
    k = min(COMPONENTS, len(X) - 1, len(Y) - 1, X.shape[1])
    P, _ = principal_subspace(torch.cat([X, Y]) - mu, k)
    (m_s, S), (m_t, T) = ledoit_wolf_covariance((X - mu) @ P), ledoit_wolf_covariance((Y - mu) @ P)
    s, t = psd_power(S, -1.0), psd_power(T, -1.0)
    spread = float(torch.logdet(T) - torch.logdet(S))
    if not math.isfinite(spread):
        raise FitError("The rows of a side are all alike along the principal components; more varied ones are needed.")
    bias = (spread + float(m_t @ t @ m_t) - float(m_s @ s @ m_s)) / 2
    return Detector("gaussian", mu, P @ (s @ m_s - t @ m_t), P, (t - s) / 2, bias=bias)


def _one_class(_: Tensor, Y: Tensor) -> Detector:
    mean = Y.mean(dim=0)
    spread = Shrunk.of(Y - mean)
    return Detector("one-class", mean, torch.zeros_like(mean), spread.basis, torch.diag(spread.extra), spread.isotropic)


def _logistic(X: Tensor, Y: Tensor) -> Detector:
    rows, labels = torch.cat([X, Y]).numpy(), np.repeat([1.0, 0.0], [len(X), len(Y)])
    weight = np.repeat([len(rows) / (2 * len(X)), len(rows) / (2 * len(Y))], [len(X), len(Y)])
    head = fit_regression(rows, labels, weight, STRENGTH)
    mean = torch.cat([X, Y]).mean(dim=0)
    direction = torch.from_numpy(head.coefficients)
    return _linear("logistic", mean, direction, head.intercept + float(mean @ direction))


KINDS: Mapping[str, Callable[[Tensor, Tensor], Detector]] = MappingProxyType(
    {
        "difference-of-means": _difference_of_means,
        "lda": _lda,
        "gaussian": _gaussian,
        "one-class": _one_class,
        "logistic": _logistic,
    }
)
"""The detectors by name."""


@dataclass(frozen=True, eq=False)
class Shrunk:
    """The inverse of a Ledoit-Wolf covariance of n rows about their mean: isotropic I + V diag(extra) V'.

    Attributes:
        isotropic: 1 / (a s), with s = tr C / d.
        basis: V, right singular vectors of the rows, (d, r).
        extra: 1 / ((1 - a) lambda + a s) - 1 / (a s), (r,).
        intensity: a, scikit-learn's.
    """

    isotropic: float
    basis: Float64[Tensor, "d r"]
    extra: Float64[Tensor, " r"]
    intensity: float

    @staticmethod
    def of(centred: Float64[Tensor, "n d"]) -> Shrunk:
        """Of rows that are centred already; the covariance is divided by n.

        Raises:
            FitError: the rows are all alike.
        """
        n, d = centred.shape
        V, singular = principal_subspace(centred, min(n, d))
        variances = singular.square() / n
        trace, square = float(variances.sum()), float(variances.square().sum())
        if trace == 0.0:
            raise FitError("The activations are all alike; prompts that differ were expected.")
        spread = square - trace**2 / d
        noise = (float(centred.square().sum(dim=1).square().sum()) / n - square) / n
        intensity = 1.0 if spread <= 0 else min(max(noise, 0.0), spread) / spread
        floor = max(intensity, 1e-9) * trace / d
        inverse = 1 / ((1 - intensity) * variances + floor)
        return Shrunk(1 / floor, V, inverse - 1 / floor, intensity)

    def solve(self, vector: Float64[Tensor, " d"]) -> Float64[Tensor, " d"]:
        """The inverse times a vector."""
        return self.isotropic * vector + self.basis @ (self.extra * (self.basis.mT @ vector))
