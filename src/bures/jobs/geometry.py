"""Where harmful and harmless prompts differ, block by block, without touching the network.

All figures but the AUROC are of the fit split; the AUROC is fitted there and measured on held-out prompts.

distance          2-Wasserstein distance between the Gaussians of both sides, in units of the pooled spread
                  (root mean square distance of a row from the common mean), so that depths compare
distance_whitened the same along the first K components, in units of the within-class deviation there
mean_share        share of the squared distance that the means make up; the covariances make up the rest
fisher            (gap of the means)^2 / (mean of the two variances), along each of the first K components
effective_rank    exp(entropy) of the pooled spectrum (Roy and Vetterli 2007)
auroc             of the Gaussian log-likelihood ratio along the first K components, on held-out prompts
gaussian_share    share of the 2 K marginals that D'Agostino and Pearson's test does not reject at 1 %
angle_previous    mean principal angle to the same subspace one block earlier, degrees
angle_rfa, angle_act  smallest angle between the PCA-OT subspace and RFA's direction, or AcT's mean displacement
angle_rfa_act     between those two directions

With rows A = (X - mean) / sqrt(n) and B = (Y - mean) / sqrt(m), the covariance part of the distance is
|A|^2 + |B|^2 - 2 |A B'|_* (nuclear norm), so no d x d matrix is formed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import scipy.stats
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bures.errors import FitError
from bures.results.records import BlockGeometry
from bures.results.stats import auroc
from bures.transport import fit_act, ledoit_wolf_covariance
from bures.transport.linalg import bures_wasserstein_distance, principal_subspace, psd_power, vector_norm

COMPONENTS = 8
"""How many principal components the figures along the subspace use, where the prompts allow as many."""

_NOT_REJECTED = 0.01


def geometry(
    source: Mapping[int, Float[Tensor, "n d"]],
    target: Mapping[int, Float[Tensor, "m d"]],
    held_out_source: Mapping[int, Float[Tensor, "p d"]],
    held_out_target: Mapping[int, Float[Tensor, "q d"]],
    *,
    components: int = COMPONENTS,
) -> list[BlockGeometry]:
    """The figures at every block of the fit split, in ascending order.

    Raises:
        FitError: fewer than 9 prompts on a side (the normality test needs them), or rows that are all alike.
    """
    found: list[BlockGeometry] = []
    before: Tensor | None = None
    for block in sorted(source):
        X, Y = source[block].double().cpu(), target[block].double().cpu()
        if min(len(X), len(Y)) <= 8:
            raise FitError(f"{len(X)} and {len(Y)} fit prompts; expected at least 9 on each side")
        k = min(components, len(X) - 1, len(Y) - 1, X.shape[1])
        mu = torch.cat([X, Y]).mean(dim=0)
        P, _ = principal_subspace(torch.cat([X, Y]) - mu, k)
        projected = [(rows.double().cpu() - mu) @ P for rows in (X, Y, held_out_source[block], held_out_target[block])]
        found.append(_at(block, X, Y, P, projected, before))
        before = P
    return found


def _at(block: int, X: Tensor, Y: Tensor, P: Tensor, projected: list[Tensor], before: Tensor | None) -> BlockGeometry:
    u, v, held_u, held_v = projected
    squared, mean_part = squared_distance(X, Y)
    pooled = torch.cat([X, Y])
    spread = float((pooled - pooled.mean(dim=0)).square().sum(dim=1).mean())
    if spread == 0.0:
        raise FitError(f"all activations after block {block} are alike; expected prompts that differ")
    (m_s, S), (m_t, T) = ledoit_wolf_covariance(u), ledoit_wolf_covariance(v)
    W = psd_power((S + T) / 2, -0.5)
    whitened = bures_wasserstein_distance(W @ m_s, W @ S @ W, W @ m_t, W @ T @ W)
    gap = m_s - m_t
    rfa = X.mean(dim=0) - Y.mean(dim=0)
    act = (fit_act(X, Y)(X) - X).mean(dim=0)
    return BlockGeometry(
        block=block,
        components=P.shape[1],
        distance=math.sqrt(squared / spread),
        mean_share=mean_part / squared if squared else 0.0,
        distance_whitened=whitened,
        mean_share_whitened=min(1.0, vector_norm(W @ gap) ** 2 / whitened**2) if whitened else 0.0,
        fisher=tuple(float(x) for x in gap.square() / ((u.var(dim=0) + v.var(dim=0)) / 2)),
        effective_rank=effective_rank(pooled - pooled.mean(dim=0)),
        auroc=auroc(log_ratio(held_u, (m_s, S), (m_t, T)), log_ratio(held_v, (m_s, S), (m_t, T))),
        gaussian_share=gaussian_share(u, v),
        angle_previous=None if before is None else float(principal_angles(before, P).mean()),
        angle_rfa=_smallest(rfa, P) or 0.0,
        angle_act=_smallest(act, P),
        angle_rfa_act=_smallest(rfa, act[:, None] / max(vector_norm(act), 1e-300)) if vector_norm(act) else None,
    )


def squared_distance(X: Float64[Tensor, "n d"], Y: Float64[Tensor, "m d"]) -> tuple[float, float]:
    """Squared 2-Wasserstein distance between the Gaussians of two samples (covariances divided by n), and the part of
    it that is the squared distance of the means; no d x d matrix."""
    A, B = (X - X.mean(dim=0)) / math.sqrt(len(X)), (Y - Y.mean(dim=0)) / math.sqrt(len(Y))
    nuclear = float(torch.linalg.svdvals(A @ B.mT).sum())
    means = vector_norm(X.mean(dim=0) - Y.mean(dim=0)) ** 2
    spreads = float(A.square().sum() + B.square().sum()) - 2 * nuclear
    return means + max(0.0, spreads), means


def effective_rank(centred: Float64[Tensor, "n d"]) -> float:
    """exp(-sum p log p) with p the spectrum's shares of the variance (Roy and Vetterli 2007)."""
    variances = torch.linalg.svdvals(centred).square()
    shares = variances / variances.sum()
    return float(torch.exp(torch.special.entr(shares).sum()))


def log_ratio(
    z: Float64[Tensor, "n k"],
    source: tuple[Float64[Tensor, " k"], Float64[Tensor, "k k"]],
    target: tuple[Float64[Tensor, " k"], Float64[Tensor, "k k"]],
) -> list[float]:
    """log N(z; source) - log N(z; target) for every row."""
    first, second = (torch.distributions.MultivariateNormal(m, covariance_matrix=C) for m, C in (source, target))
    return [float(x) for x in first.log_prob(z) - second.log_prob(z)]


def gaussian_share(u: Float64[Tensor, "n k"], v: Float64[Tensor, "m k"]) -> float:
    """Share of the marginals of both sides that D'Agostino and Pearson's test (1973) does not reject at 1 %."""
    p = [cast("Any", scipy.stats.normaltest(rows.numpy(), axis=0)).pvalue for rows in (u, v)]
    return float((np.concatenate(p) >= _NOT_REJECTED).mean())


def principal_angles(P: Float64[Tensor, "d k"], Q: Float64[Tensor, "d j"]) -> Float64[Tensor, " i"]:
    """Principal angles between two subspaces with orthonormal bases, in degrees, ascending.

    Small angles come from sines and large ones from cosines (Björck and Golub 1973), so neither loses digits.
    """
    cosines = torch.linalg.svdvals(P.mT @ Q).clamp(max=1.0)
    small = Q if Q.shape[1] <= P.shape[1] else P
    other = P if small is Q else Q
    sines = torch.linalg.svdvals(small - other @ (other.mT @ small)).clamp(max=1.0).flip(0)
    angles = torch.where(cosines**2 > 0.5, torch.asin(sines), torch.acos(cosines))
    return torch.rad2deg(angles)


def _smallest(direction: Tensor, P: Tensor) -> float | None:
    """Angle between a direction and a subspace, in degrees; None for no direction."""
    length = vector_norm(direction)
    return None if length == 0 else float(principal_angles(direction[:, None] / length, P)[0])
