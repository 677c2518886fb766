"""The blocks' geometry against scikit-learn, POT, scipy and dense formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from torch import Tensor

from bures.errors import FitError
from bures.jobs.geometry import effective_rank, geometry, principal_angles, squared_distance
from helpers import pot


def rows(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scales = torch.linspace(0.3, 2.0, d, dtype=torch.float64)
    found = torch.randn(n, d, generator=generator, dtype=torch.float64) * scales
    found[:, -1] += shift
    return found


@pytest.mark.parametrize(("n", "m", "d"), [(60, 40, 5), (7, 9, 12), (30, 30, 30)])
def test_the_distance_is_that_of_the_gaussians(n: int, m: int, d: int) -> None:
    X, Y = rows(n, d, 1, shift=1.5), 1.7 * rows(m, d, 2)
    squared, means = squared_distance(X, Y)
    S, T = (np.cov(each.numpy().T, bias=True) for each in (X, Y))
    root = scipy.linalg.sqrtm(S + 1e-14 * np.eye(d))
    dense = np.trace(S + T - 2 * np.real(scipy.linalg.sqrtm(root @ T @ root)))
    gap = float((X.mean(0) - Y.mean(0)).square().sum())
    assert means == pytest.approx(gap)
    assert squared == pytest.approx(gap + dense, rel=1e-5, abs=1e-5)
    if d < min(n, m):
        oracle = pot.distance(X.mean(0).numpy(), Y.mean(0).numpy(), S, T)
        assert math.sqrt(squared) == pytest.approx(oracle, rel=1e-6)


def test_a_sample_is_no_distance_from_itself() -> None:
    X = rows(20, 6, 3)
    assert squared_distance(X, X)[0] == pytest.approx(0.0, abs=1e-12)


def test_the_effective_rank_counts_equal_directions() -> None:
    eye = torch.eye(6, dtype=torch.float64)
    assert effective_rank(eye[:4]) == pytest.approx(4.0)
    assert effective_rank(torch.diag(torch.tensor([3.0, 0, 0, 0]).double())) == pytest.approx(1.0)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 0.3, 1.2, math.pi / 2])
def test_principal_angles_are_scipys(angle: float) -> None:
    P = torch.eye(7, dtype=torch.float64)[:, :3]
    Q = P.clone()
    Q[0, 0], Q[3, 0] = math.cos(angle), math.sin(angle)
    found = principal_angles(P, Q)
    expected = np.rad2deg(scipy.linalg.subspace_angles(P.numpy(), Q.numpy()))[::-1]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    line = Q[:, :1]
    assert float(principal_angles(line, P)[0]) == pytest.approx(math.degrees(angle), abs=1e-9)
    assert float(principal_angles(P, line)[0]) == pytest.approx(math.degrees(angle), abs=1e-9)


def blocks_of(seed: int, shifts: dict[int, float], n: int) -> dict[int, Tensor]:
    return {block: rows(n, 16, 100 * seed + block, shift).float() for block, shift in shifts.items()}


def test_the_figures_of_a_block_are_those_of_other_libraries() -> None:
    far = {0: 0.0, 3: 6.0}
    near = dict.fromkeys(far, 0.0)
    source, target = blocks_of(1, far, 50), blocks_of(2, near, 60)
    held_source, held_target = blocks_of(3, far, 20), blocks_of(4, near, 25)
    first, second = geometry(source, target, held_source, held_target, components=4)
    assert (first.block, second.block, first.components) == (0, 3, 4)
    assert first.angle_previous is None
    assert second.auroc.value > 0.95 > 0.8 > first.auroc.value
    assert second.mean_share > 0.5 > first.mean_share
    assert second.distance > 2 * first.distance
    assert second.angle_rfa < 25.0  # a shift of many deviations is a principal direction

    X, Y = source[3].double().numpy(), target[3].double().numpy()
    pooled = np.concatenate([X, Y])
    P = np.linalg.svd(pooled - pooled.mean(0), full_matrices=False)[2][:4].T
    u, v = ((each - pooled.mean(0)) @ P for each in (X, Y))
    fits = [LedoitWolf().fit(each) for each in (u, v)]
    models = [scipy.stats.multivariate_normal(f.location_, f.covariance_) for f in fits]
    held = np.concatenate([held_source[3].double().numpy(), held_target[3].double().numpy()])
    z = (held - pooled.mean(0)) @ P
    scores = models[0].logpdf(z) - models[1].logpdf(z)
    assert second.auroc.value == pytest.approx(roc_auc_score([1] * 20 + [0] * 25, scores))
    gaps = (u.mean(0) - v.mean(0)) ** 2 / ((u.var(0, ddof=1) + v.var(0, ddof=1)) / 2)
    assert second.fisher == pytest.approx(tuple(gaps), rel=1e-6)
    W = scipy.linalg.inv(scipy.linalg.sqrtm((fits[0].covariance_ + fits[1].covariance_) / 2))
    oracle = pot.distance(
        W @ fits[0].location_, W @ fits[1].location_, W @ fits[0].covariance_ @ W, W @ fits[1].covariance_ @ W
    )
    assert second.distance_whitened == pytest.approx(oracle, rel=1e-5)
    spread = ((pooled - pooled.mean(0)) ** 2).sum(1).mean()
    assert second.distance == pytest.approx(math.sqrt(squared_distance(*map(torch.tensor, (X, Y)))[0] / spread))
    p = np.concatenate([scipy.stats.normaltest(each).pvalue for each in (u, v)])
    assert second.gaussian_share == pytest.approx((p >= 0.01).mean())


def test_what_is_not_gaussian_is_told() -> None:
    heavy = {0: rows(200, 4, 5).pow(3).float()}
    found = geometry(heavy, heavy, heavy, heavy, components=2)[0]
    assert found.gaussian_share == 0.0
    assert found.angle_act is not None or found.distance == pytest.approx(0.0, abs=1e-6)


def test_too_few_or_equal_prompts_are_refused() -> None:
    few = {0: rows(8, 4, 1)}
    with pytest.raises(FitError, match="at least 9"):
        geometry(few, few, few, few)
    same = {0: torch.ones(12, 4)}
    with pytest.raises(FitError):
        geometry(same, same, same, same)
