"""Roots, Monge matrices, principal subspaces and the Bures-Wasserstein distance against SciPy, NumPy and POT."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bures.errors import FitError
from bures.transport.linalg import bures_wasserstein_distance, monge_matrix, principal_subspace, psd_power
from helpers import pot

relaxed = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)


def spd(k: int, seed: int, condition: float = 100.0) -> torch.Tensor:
    """A random symmetric positive definite matrix with eigenvalues from 1 / condition to 1."""
    g = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn(k, k, generator=g, dtype=torch.float64))
    exponents = torch.rand(k, generator=g, dtype=torch.float64)
    return (Q * condition**-exponents) @ Q.mT


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 2, 5, 24])
def test_square_root_equals_scipy(k: int) -> None:
    M = spd(k, k)
    expected = np.real(scipy.linalg.sqrtm(M.numpy()))
    np.testing.assert_allclose(psd_power(M, 0.5).numpy(), expected, atol=1e-12)


@given(k=st.integers(1, 16), seed=seeds, p=st.floats(-2, 2), q=st.floats(-2, 2))
@relaxed
def test_powers_add(k: int, seed: int, p: float, q: float) -> None:
    M = spd(k, seed, condition=10.0)
    torch.testing.assert_close(psd_power(M, p) @ psd_power(M, q), psd_power(M, p + q), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(psd_power(M, 1.0), M, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_negative_power_of_a_singular_matrix_is_the_pseudo_inverse(rank: int) -> None:
    F = randn(6, rank)
    M = F @ F.mT
    np.testing.assert_allclose(psd_power(M, -1.0).numpy(), np.linalg.pinv(M.numpy(), rcond=1e-10), atol=1e-8)
    assert float(psd_power(M, 0.0).trace()) == pytest.approx(rank, abs=1e-12)


def test_relative_cutoff_does_not_depend_on_the_scale() -> None:
    M = torch.diag(torch.tensor([1.0, 1e-3, 1e-9], dtype=torch.float64))
    for scale in (1e-200, 1.0, 1e200):
        inverse = psd_power(M * scale, -1.0, rtol=1e-6) * scale
        torch.testing.assert_close(inverse.diagonal(), torch.tensor([1.0, 1e3, 0.0], dtype=torch.float64))


def test_float32_and_float64_inputs_give_float64() -> None:
    assert psd_power(torch.eye(3), 0.5).dtype == torch.float64
    assert monge_matrix(torch.eye(3), torch.eye(3)).dtype == torch.float64


@pytest.mark.parametrize(
    ("M", "fragment"),
    [(torch.diag(torch.tensor([1.0, -0.5])), "negative eigenvalue"), (torch.full((2, 2), torch.nan), "NaN")],
)
def test_what_is_not_a_covariance_is_refused(M: torch.Tensor, fragment: str) -> None:
    with pytest.raises(FitError, match=fragment):
        psd_power(M, 0.5)


@given(k=st.integers(1, 24), seed=seeds)
@relaxed
def test_monge_matrix_is_spd_and_carries_source_to_target(k: int, seed: int) -> None:
    S, T = spd(k, seed), spd(k, seed + 1)
    A = monge_matrix(S, T)
    assert torch.equal(A, A.mT)
    assert float(torch.linalg.eigvalsh(A)[0]) > 0
    torch.testing.assert_close(A @ S @ A, T, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(A @ monge_matrix(T, S), torch.eye(k, dtype=A.dtype), rtol=1e-9, atol=1e-9)


def test_monge_matrix_keeps_its_digits_when_both_covariances_are_ill_conditioned() -> None:
    S, T = spd(6, 3, condition=1e9), spd(6, 4, condition=1e9)
    A = monge_matrix(S, T)
    assert float((A @ S @ A - T).abs().max()) < 1e-8


def test_cholesky_factor_map_is_not_the_monge_map() -> None:
    """L_T L_S^-1 carries S to T as well, but it is not symmetric and moves mass farther."""
    S, T = spd(4, 0), spd(4, 1)
    L_S, L_T = torch.linalg.cholesky(S), torch.linalg.cholesky(T)
    C, A, eye = L_T @ torch.linalg.inv(L_S), monge_matrix(S, T), torch.eye(4, dtype=S.dtype)
    torch.testing.assert_close(C @ S @ C.mT, T)

    def cost(B: torch.Tensor) -> float:
        return float(((B - eye) @ S @ (B - eye).mT).trace())

    zero = torch.zeros(4, dtype=S.dtype)
    assert cost(A) < cost(C) - 1e-3
    assert cost(A) == pytest.approx(bures_wasserstein_distance(zero, S, zero, T) ** 2, rel=1e-10)


def test_monge_matrix_refuses_a_singular_source_but_takes_a_singular_target() -> None:
    flat = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    with pytest.raises(FitError, match="ridge"):
        monge_matrix(flat, spd(2, 0))
    with pytest.raises(FitError, match="singular"):
        monge_matrix(torch.zeros(2, 2), spd(2, 0))
    S = spd(2, 0)
    A = monge_matrix(S, flat)
    torch.testing.assert_close(A @ S @ A, flat, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "d"), [(5, 40), (40, 5), (12, 12), (1, 7), (7, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_principal_subspace_equals_the_full_svd(n: int, d: int, dtype: torch.dtype) -> None:
    X = randn(n, d, seed=n * d).to(dtype)
    rank = min(n, d)
    V, singular = principal_subspace(X, rank)
    _, expected, right = np.linalg.svd(X.double().numpy(), full_matrices=True)
    np.testing.assert_allclose(singular.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(right[:rank] * V.mT.numpy(), axis=1)), 1.0, atol=1e-10)
    assert V.dtype == singular.dtype == torch.float64


@given(n=st.integers(1, 40), d=st.integers(1, 40), true_rank=st.integers(0, 40), seed=seeds, data=st.data())
@relaxed
def test_principal_subspace_is_orthonormal_and_optimal_at_any_rank(
    n: int, d: int, true_rank: int, seed: int, data: st.DataObject
) -> None:
    r = min(true_rank, n, d)
    X = randn(n, r, seed=seed) @ randn(r, d, seed=seed + 1)
    rank = data.draw(st.integers(1, min(n, d)))
    V, singular = principal_subspace(X, rank)
    assert float((V.mT @ V - torch.eye(rank, dtype=V.dtype)).abs().max()) < 1e-12
    scale = 1 + float(X.norm())
    torch.testing.assert_close((X @ V).norm(dim=0), singular, rtol=1e-9, atol=1e-12 * scale)
    # Eckart-Young: what is left over is the norm of the remaining singular values
    left = float((X - X @ V @ V.mT).square().sum())
    assert left == pytest.approx(float(torch.linalg.svdvals(X)[rank:].square().sum()), abs=1e-12 * scale**2)


def test_small_singular_values_survive_a_wide_matrix() -> None:
    """A Gram matrix would lose everything below 1e-8 of the largest singular value."""
    V_true = torch.linalg.qr(randn(50, 3)).Q
    singular = torch.tensor([1.0, 1e-5, 1e-10], dtype=torch.float64)
    X = torch.linalg.qr(randn(6, 3, seed=1)).Q * singular @ V_true.mT
    V, found = principal_subspace(X, 3)
    torch.testing.assert_close(found, singular, rtol=1e-5, atol=0.0)
    assert float((V * V_true).sum(dim=0).abs().min()) > 1 - 1e-5


def test_signs_and_prefixes_are_deterministic() -> None:
    for X in (randn(6, 30), randn(30, 6)):
        V, _ = principal_subspace(X, 6)
        peaks = V.gather(0, V.abs().argmax(dim=0, keepdim=True))
        assert bool((peaks > 0).all())
        torch.testing.assert_close(principal_subspace(-X, 6)[0], V)
        for rank in range(1, 6):
            assert torch.equal(principal_subspace(X, rank)[0], V[:, :rank])


def test_no_d_by_d_matrix_is_formed() -> None:
    """At d = 200 000 one would take 320 GB, so that this runs is the proof."""
    X = randn(16, 200_000)
    V, _ = principal_subspace(X - X.mean(dim=0), 4)
    assert V.shape == (200_000, 4)
    assert V.untyped_storage().nbytes() == 200_000 * 4 * 8


@pytest.mark.parametrize("rank", [0, 4, -1])
def test_rank_out_of_range(rank: int) -> None:
    with pytest.raises(FitError, match=r"min\(n, d\) = 3"):
        principal_subspace(randn(3, 9), rank)


@given(k=st.integers(1, 12), seed=seeds)
@relaxed
def test_distance_equals_pot(k: int, seed: int) -> None:
    a, b, A, B = randn(k, seed=seed), randn(k, seed=seed + 1), spd(k, seed), spd(k, seed + 1)
    expected = pot.distance(a, b, A, B)
    assert bures_wasserstein_distance(a, A, b, B) == pytest.approx(expected, abs=1e-6)


def test_distance_is_a_metric() -> None:
    points = [(randn(3, seed=s), spd(3, s)) for s in range(5)]
    points.append((randn(3), torch.zeros(3, 3, dtype=torch.float64)))  # a point mass is a Gaussian too
    for p in points:
        assert bures_wasserstein_distance(*p, *p) == pytest.approx(0.0, abs=1e-13)
    for p, q, r in itertools.permutations(points, 3):
        pq, qr, pr = (bures_wasserstein_distance(*u, *v) for u, v in ((p, q), (q, r), (p, r)))
        assert pq == pytest.approx(bures_wasserstein_distance(*q, *p), rel=1e-12)
        assert 0 < pr <= pq + qr + 1e-12


def test_distance_of_commuting_covariances_is_elementary() -> None:
    a, b = torch.tensor([1.0, 4.0]), torch.tensor([9.0, 4.0])
    zero = torch.zeros(2)
    assert bures_wasserstein_distance(zero, torch.diag(a), zero + 3, torch.diag(b)) == pytest.approx((4 + 18) ** 0.5)
