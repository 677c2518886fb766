"""Over-refusal repair: the means move onto each other, harmful rows stay, w is a ridge regression by brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bures.errors import FitError
from bures.transport import LowRankAffine, fit_repair, load_map


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def three(n: int, m: int, k: int, d: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Harmful rows mostly in the first half of the coordinates; the others have an offset of their own."""
    scale = torch.where(torch.arange(d) < d // 2, 3.0, 0.1)
    return randn(n, d, seed=seed) + 1.0, randn(m, d, seed=seed + 1) - 1.0, randn(k, d, seed=seed + 2) * scale


def projection(Z: Tensor, share: float) -> Tensor:
    """P by the eigenvectors of the whole second moment."""
    _, vectors = np.linalg.eigh((Z.mT @ Z / len(Z)).numpy())
    kept = torch.from_numpy(vectors[:, : max(1, int(share * Z.shape[1]))].copy())
    return kept @ kept.mT


def read_by(T: LowRankAffine) -> Tensor:
    """w of h + a w'h, times |a|."""
    return (T.basis_in @ T.matrix.mT)[:, 0]


@given(
    n=st.integers(2, 20),
    m=st.integers(2, 20),
    k=st.integers(2, 40),
    d=st.integers(6, 24),
    share=st.floats(0.2, 0.8),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=40)
def test_the_mean_moves_onto_the_target_and_harmful_rows_no_farther_than_the_bound(
    n: int, m: int, k: int, d: int, share: float, seed: int
) -> None:
    X, Y, Z = three(n, m, k, d, seed)
    T = fit_repair(X, Y, Z, share=share)
    torch.testing.assert_close(T(X).mean(dim=0), Y.mean(dim=0), rtol=0.0, atol=1e-8)
    moved = float((T(Z) - Z).square().sum(dim=1).mean().sqrt())
    assert moved <= T.metadata["harmful_move_bound"] * (1 + 1e-9) + 1e-9
    if k <= d - max(1, int(share * d)):
        assert T.metadata["harmful_move_bound"] == 0.0  # all harmful directions are left out


def test_a_shift_of_the_means_would_move_harmful_rows_far_and_this_does_not() -> None:
    X, Y, Z = three(30, 30, 200, 20, seed=5)
    T, gap = fit_repair(X, Y, Z), Y.mean(dim=0) - X.mean(dim=0)
    moved = (T(Z) - Z).norm(dim=1)
    assert float(moved.square().mean().sqrt()) < 0.1 * float(gap.norm())
    assert float((T(X) - X).norm(dim=1).mean()) > 0.8 * float(gap.norm())
    fresh = three(30, 30, 200, 20, seed=77)[2]
    assert float((T(fresh) - fresh).square().mean(dim=0).sum().sqrt()) < 0.1 * float(gap.norm())


@pytest.mark.parametrize("n", [8, 40])
def test_w_is_the_ridge_regression_of_one_within_the_projection(n: int) -> None:
    """Least squares on rows that are stacked on the root of the ridge, by numpy; then scaled so that w'mean(X) = 1."""
    X, Y, Z = three(n, 12, 60, 16, seed=3)
    P = projection(Z, 0.5)
    rows = (X @ P).numpy()
    penalty = 0.3 * np.trace(rows.T @ rows / n) / 8
    stacked = np.vstack([rows, np.sqrt(n * penalty) * np.eye(16)])
    u = np.linalg.lstsq(stacked, np.concatenate([np.ones(n), np.zeros(16)]), rcond=None)[0]
    expected = u / (u @ X.mean(dim=0).numpy())
    T = fit_repair(X, Y, Z, share=0.5, ridge=0.3)
    found = read_by(T) / float((Y.mean(dim=0) - X.mean(dim=0)).norm())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(found.numpy() @ (np.eye(16) - P.numpy()), 0.0, atol=1e-10)
    assert T.rank == 1


def test_it_is_saved_and_loaded_bit_for_bit(tmp_path: Path) -> None:
    X, Y, Z = three(9, 8, 30, 12, seed=1)
    T = fit_repair(X, Y, Z)
    T.save(tmp_path / "repair.safetensors")
    again = load_map(tmp_path / "repair.safetensors")
    assert torch.equal(again(X), T(X))
    assert again.kind == "repair"
    assert dict(again.metadata) == dict(T.metadata)
    assert T.metadata["n_harmful"] == 30


def test_what_cannot_be_fitted_is_said() -> None:
    X, Y, Z = three(9, 8, 30, 12, seed=1)
    for options in ({"share": 0.0}, {"share": 1.0}, {"ridge": 0.0}, {"ridge": float("inf")}):
        with pytest.raises(FitError, match="share"):
            fit_repair(X, Y, Z, **options)
    with pytest.raises(FitError, match="coincide"):
        fit_repair(X, X, Z)
    with pytest.raises(FitError, match="width"):
        fit_repair(X, Y, Z[:, :5])
    flat = torch.zeros(4, 12, dtype=torch.float64)
    flat[:, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    with pytest.raises(FitError, match="outside the harmful directions"):
        fit_repair(flat, Y, torch.eye(12, dtype=torch.float64)[:3])
