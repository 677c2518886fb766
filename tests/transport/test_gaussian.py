"""PCA-OT as theorems: moments, symmetry, untouched complement, optimality; oracles POT, scikit-learn, brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import OAS, LedoitWolf

from bures.errors import FitError
from bures.transport import LowRankAffine, TransportMap, fit_pca_ot, fit_pca_ot_path
from bures.transport.gaussian import Shrinkage, ledoit_wolf_intensity, oas_intensity
from bures.transport.linalg import bures_wasserstein_distance
from helpers import pot

relaxed = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)
DTYPES = [torch.float32, torch.float64]


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sides(n: int, m: int, d: int, seed: int, *, inner: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated source and target rows with different means; both vary in `inner` <= d shared directions only."""
    r = d if inner is None else inner
    scales = torch.logspace(0, -1, r, dtype=torch.float64)
    frame = torch.linalg.qr(randn(d, r, seed=seed)).Q.mT * 3
    X = (randn(n, r, seed=seed + 1) * scales) @ frame
    Y = (randn(m, r, seed=seed + 2) * scales.flip(0) + 2 * randn(r, seed=seed + 3)) @ frame
    return X, Y


def projected(transport: LowRankAffine, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    z = rows.double() @ transport.basis_in
    return z.mean(dim=0), torch.cov(z.mT, correction=0).reshape(transport.rank, transport.rank)


def monge(transport: LowRankAffine) -> torch.Tensor:
    return transport.matrix + torch.eye(transport.rank, dtype=torch.float64)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(a, b, rtol=0.0, atol=tolerance * (1 + float(b.abs().max())))


# d from 1 to 64, n below and above d, ranks up to the limit; n >= 4 K keeps S well conditioned with no ridge
GRID = [(8, 9, 1, 1), (20, 30, 3, 3), (60, 40, 8, 2), (10, 12, 64, 2), (64, 48, 64, 12), (200, 150, 16, 16)]


@pytest.mark.parametrize(("n", "m", "d", "rank"), GRID)
@pytest.mark.parametrize("dtype", DTYPES)
def test_source_moments_become_the_targets(n: int, m: int, d: int, rank: int, dtype: torch.dtype) -> None:
    X, Y = (side.to(dtype) for side in sides(n, m, d, seed=n + d))
    T = fit_pca_ot(X, Y, rank, ridge=0.0)
    (mean_X, cov_X), (mean_Y, cov_Y) = projected(T, X), projected(T, Y)
    mean_TX, cov_TX = projected(T, T(X.double()))
    close(mean_TX, mean_Y, 1e-8)
    close(cov_TX, cov_Y, 1e-8)
    before = bures_wasserstein_distance(mean_X, cov_X, mean_Y, cov_Y)
    after = bures_wasserstein_distance(mean_TX, cov_TX, mean_Y, cov_Y)
    assert before > 0.1  # there was something to move
    assert after < 1e-7 * before


@pytest.mark.parametrize(("n", "m", "d", "rank"), GRID)
@pytest.mark.parametrize("shrinkage", [None, "ledoit-wolf", "oas"])
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.1])
def test_regularised_theorem(n: int, m: int, d: int, rank: int, shrinkage: Shrinkage | None, ridge: float) -> None:
    """A S A = T holds for the regularised covariances, here recomputed with scikit-learn's estimators."""
    X, Y = sides(n, m, d, seed=d)
    T = fit_pca_ot(X, Y, rank, ridge=ridge, shrinkage=shrinkage)

    def regularised(rows: torch.Tensor) -> torch.Tensor:
        z = (rows @ T.basis_in).numpy()
        plain = np.atleast_2d(np.cov(z.T, bias=True))
        shrunk = {None: None, "ledoit-wolf": LedoitWolf(), "oas": OAS()}[shrinkage]
        covariance = plain if shrunk is None else shrunk.fit(z).covariance_
        return torch.from_numpy(covariance + ridge * plain.trace() / rank * np.eye(rank))

    A = monge(T)
    close(A @ regularised(X) @ A, regularised(Y), 1e-8)
    mean_TX, _ = projected(T, T(X))
    close(mean_TX, projected(T, Y)[0], 1e-10)


@given(d=st.integers(1, 64), extra=st.integers(0, 40), data=st.data(), seed=seeds, dtype=st.sampled_from(DTYPES))
@relaxed
def test_symmetric_positive_definite_and_complement_untouched(
    d: int, extra: int, data: st.DataObject, seed: int, dtype: torch.dtype
) -> None:
    rank = data.draw(st.integers(1, min(d, 8)))
    inner = data.draw(st.integers(rank, d))  # rows that are rank deficient in d
    n, m = rank + 2 + extra, rank + 3 + extra
    X, Y = (side.to(dtype) for side in sides(n, m, d, seed, inner=inner))
    T = fit_pca_ot(X, Y, rank)
    A, P = monge(T), T.basis_in
    assert float((A - A.mT).abs().max()) <= 1e-10
    assert float(torch.linalg.eigvalsh(A)[0]) > 0
    assert float((P.mT @ P - torch.eye(rank, dtype=P.dtype)).abs().max()) < 1e-12
    h = torch.cat([X.double(), randn(5, d, seed=seed) * 10])
    moved = T(h) - h
    assert float((moved - moved @ P @ P.mT).abs().max()) < 1e-12 * (1 + float(h.abs().max()) + float(moved.abs().max()))
    orthogonal = h - h @ P @ P.mT  # these differ in the complement only, so all are moved by the same vector
    close(T(orthogonal) - orthogonal, (T(orthogonal[:1]) - orthogonal[:1]).expand_as(h), 1e-11)


@pytest.mark.parametrize("d", [1, 2, 5, 16])
def test_full_rank_equals_pot(d: int) -> None:
    X, Y = sides(30 * d + 10, 25 * d + 10, d, seed=d)
    T = fit_pca_ot(X, Y, d, ridge=0.0)
    means = (X.mean(dim=0).numpy(), Y.mean(dim=0).numpy())
    covariances = [np.atleast_2d(np.cov(side.numpy().T, bias=True)) for side in (X, Y)]
    A, b = pot.monge_map(*means, *covariances)
    h = randn(40, d, seed=1) * 4
    np.testing.assert_allclose(T(h).numpy(), h.numpy() @ A + b, atol=1e-6)
    np.testing.assert_allclose((T.basis_in @ monge(T) @ T.basis_in.mT).numpy(), A, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_one_dimension_it_is_sorting(dtype: torch.dtype) -> None:
    """An increasing affine image has one optimal coupling: the i-th smallest goes to the i-th smallest."""
    x = randn(50, 1, seed=0).to(dtype)
    y = (3.0 * x - 2.0)[torch.randperm(50, generator=torch.Generator().manual_seed(0))]
    T = fit_pca_ot(x, y, 1, ridge=0.0)
    torch.testing.assert_close(T(x.sort(dim=0).values), y.sort(dim=0).values)


def test_no_assignment_of_the_moved_rows_is_cheaper() -> None:
    X, Y = sides(40, 50, 4, seed=3)
    T = fit_pca_ot(X, Y, 4, ridge=0.0)
    cost = torch.cdist(X, T(X)).square().numpy()
    _, columns = scipy.optimize.linear_sum_assignment(cost)
    assert columns.tolist() == list(range(40))
    # a map with the same moments that is not the optimal one fails this test
    rotated = T(X).mean(dim=0) - (T(X) - T(X).mean(dim=0))
    _, columns = scipy.optimize.linear_sum_assignment(torch.cdist(X, rotated).square().numpy())
    assert columns.tolist() != list(range(40))


@given(d=st.integers(2, 24), data=st.data(), seed=seeds)
@relaxed
def test_the_other_direction_is_the_inverse(d: int, data: st.DataObject, seed: int) -> None:
    rank = data.draw(st.integers(1, min(d, 6)))
    X, Y = sides(60, 50, d, seed)
    there, back = fit_pca_ot(X, Y, rank, ridge=0.0), fit_pca_ot(Y, X, rank, ridge=0.0)
    h = randn(8, d, seed=seed)
    close(back(there(h)), h, 1e-8)
    close(there(back(h)), h, 1e-8)


@pytest.mark.parametrize(("d", "rank"), [(6, 6), (20, 2), (20, 1)])
def test_rotations_shifts_and_scales_carry_over(d: int, rank: int) -> None:
    X, Y = sides(50, 40, d, seed=d)
    R, offset, scale = torch.linalg.qr(randn(d, d, seed=9)).Q, randn(d, seed=8), 7.0
    h = randn(10, d, seed=7)
    moved = fit_pca_ot(X, Y, rank)(h)
    elsewhere = fit_pca_ot(scale * X @ R + offset, scale * Y @ R + offset, rank)(scale * h @ R + offset)
    close(elsewhere, scale * moved @ R + offset, 1e-9)


def test_same_distribution_on_both_sides_is_the_identity() -> None:
    X, _ = sides(30, 2, 5, seed=0)
    h = randn(10, 5, seed=1)
    flipped = X.flip(0)
    for T in (
        fit_pca_ot(X, flipped, 3),
        fit_pca_ot(X, flipped, 3, ridge=0.0),
        fit_pca_ot(X, flipped, 3, shrinkage="oas"),
    ):
        close(T(h), h, 1e-11)
    assert fit_pca_ot(X, X, 1).metadata["mean_gap_share"] is None


@pytest.mark.parametrize("shape", [(12, 3), (50, 7), (5, 30), (9, 1)])
def test_shrinkage_intensities_equal_scikit_learns(shape: tuple[int, int]) -> None:
    for seed in range(5):
        z = randn(*shape, seed=seed) * torch.logspace(0, -2 * (seed % 2), shape[1], dtype=torch.float64)
        centered = z - z.mean(dim=0)
        if shape[1] == 1:
            assert ledoit_wolf_intensity(centered) == oas_intensity(centered) == 0.0
            continue
        assert ledoit_wolf_intensity(centered) == pytest.approx(LedoitWolf().fit(z.numpy()).shrinkage_, rel=1e-9)
        assert oas_intensity(centered) == pytest.approx(OAS().fit(z.numpy()).shrinkage_, rel=1e-9)


def test_path_equals_separate_fits_bit_for_bit() -> None:
    for n, m, d in ((20, 17, 300), (200, 150, 12)):
        X, Y = sides(n, m, d, seed=n, inner=12)
        path = fit_pca_ot_path(X, Y, [5, 1, 2, 12], shrinkage="ledoit-wolf")
        assert list(path) == [5, 1, 2, 12]
        for rank, T in path.items():
            alone = fit_pca_ot(X, Y, rank, shrinkage="ledoit-wolf")
            for name in ("mean", "basis_in", "matrix", "offset", "basis_out"):
                assert torch.equal(getattr(T, name), getattr(alone, name))
            assert T.metadata == alone.metadata


def test_metadata_tell_what_was_captured() -> None:
    X, Y = sides(30, 20, 10, seed=0)
    T = fit_pca_ot(X, Y, 3)
    gap = (X.mean(dim=0) - Y.mean(dim=0)).numpy()
    inside = T.basis_in.numpy().T @ gap
    assert T.metadata["mean_gap_share"] == pytest.approx(inside @ inside / (gap @ gap))
    assert T.metadata["mean_gap_cosine"] ** 2 == pytest.approx(T.metadata["mean_gap_share"])
    pooled = np.concatenate([X.numpy(), Y.numpy()])
    ratios = np.linalg.svd(pooled - pooled.mean(axis=0), compute_uv=False) ** 2
    assert T.metadata["explained_variance_ratio"] == pytest.approx((ratios / ratios.sum())[:3].tolist())
    assert (T.metadata["n_source"], T.metadata["n_target"], T.metadata["rank"]) == (30, 20, 3)
    assert (T.metadata["ridge"], T.metadata["shrinkage"], T.kind) == (1e-6, None, "pca-ot")
    assert isinstance(T, TransportMap)
    assert fit_pca_ot(X, Y, 10).metadata["mean_gap_share"] == pytest.approx(1.0)


def test_half_precision_rows_are_fitted_in_float64() -> None:
    X, Y = (side.to(torch.bfloat16) for side in sides(30, 30, 6, seed=0))
    T, exact = fit_pca_ot(X, Y), fit_pca_ot(X.double(), Y.double())
    assert T.dtype == torch.float64
    assert torch.equal(T.matrix, exact.matrix)


def test_no_d_by_d_matrix_is_formed() -> None:
    """At d = 200 000 one would take 320 GB, so that this runs is the proof."""
    X, Y = randn(8, 200_000, seed=0), randn(8, 200_000, seed=1) + 0.1
    T = fit_pca_ot(X, Y, 2)
    close(projected(T, T(X))[0], projected(T, Y)[0], 1e-10)


def test_fits_do_not_edit_their_rows_or_follow_gradients() -> None:
    X, Y = sides(10, 10, 4, seed=0)
    kept = X.clone()
    T = fit_pca_ot(X.requires_grad_(), Y)
    assert torch.equal(X, kept)
    assert not T.matrix.requires_grad


X0, Y0 = sides(6, 5, 8, seed=0)
FLAT = torch.cat([X0[:, :1], torch.zeros(6, 7, dtype=torch.float64)], dim=1)
NAN = X0.clone()
NAN[3, 1] = torch.nan
INF = Y0.float()
INF[4, 0] = torch.inf


@pytest.mark.parametrize(
    ("source", "target", "options", "message"),
    [
        (X0, Y0, {"rank": 5}, r"K = 5 is larger than n - 1 = 4 for the 5 target rows"),
        (X0[:2], Y0, {"rank": 2}, r"K = 2 is larger than n - 1 = 1 for the 2 source rows"),
        (X0[:, :2], Y0[:, :2], {"rank": 3}, r"K = 3 is larger than the width d = 2"),
        (X0, Y0, {"rank": 0}, "at least 1"),
        (NAN, Y0, {}, "Row 3 of the source"),
        (X0, INF, {}, "Row 4 of the target"),
        (X0, Y0[:, :7], {}, "width 8 and the target rows 7"),
        (X0[0], Y0, {}, r"shape \(n, d\)"),
        (X0, Y0[:0], {}, "at least one row"),
        (X0.int(), Y0, {}, "floating"),
        (X0, Y0, {"ridge": -1.0}, "ridge"),
        (X0, Y0, {"ridge": float("nan")}, "ridge"),
        (FLAT, Y0, {"rank": 4, "ridge": 0.0}, "singular.*ridge above 0"),
        (X0[:1].expand(6, 8), Y0, {}, "singular"),
    ],
)
def test_what_cannot_be_fitted_says_why(
    source: torch.Tensor, target: torch.Tensor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FitError, match=message) as caught:
        fit_pca_ot(source, target, **options)
    assert "\n" not in str(caught.value)


def test_a_ridge_cures_a_source_without_variance_in_a_direction() -> None:
    T = fit_pca_ot(FLAT, Y0, 4)
    close(projected(T, T(FLAT))[0], projected(T, Y0)[0], 1e-8)


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(FitError, match="No rank"):
        fit_pca_ot_path(X0, Y0, [])
