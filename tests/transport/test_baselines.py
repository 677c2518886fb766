"""The baselines: ablation, Linear-AcT and the mean shift, against their defining properties and brute force."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bures.errors import FitError
from bures.transport import ablate_direction, fit_act, fit_mean_shift, fit_pca_ot, fit_rfa

relaxed = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(n=st.integers(1, 30), m=st.integers(1, 30), d=st.integers(1, 40), seed=seeds)
@relaxed
def test_rfa_removes_the_mean_difference_and_nothing_else(n: int, m: int, d: int, seed: int) -> None:
    X, Y = randn(n, d, seed=seed), randn(m, d, seed=seed + 1) + 1
    gap = X.mean(dim=0) - Y.mean(dim=0)
    unit = gap / gap.norm()
    T, h = fit_rfa(X, Y), randn(7, d, seed=seed + 2)
    assert float((h @ unit).abs().max()) > 0  # there was a component to remove
    torch.testing.assert_close(T(h) @ unit, torch.zeros(7, dtype=h.dtype), rtol=0.0, atol=1e-12)
    torch.testing.assert_close(T(h), h @ (torch.eye(d, dtype=h.dtype) - torch.outer(unit, unit)), rtol=0.0, atol=1e-12)
    torch.testing.assert_close(T(T(h)), T(h), rtol=0.0, atol=1e-12)
    assert T.metadata["mean_gap_norm"] == pytest.approx(float(gap.norm()))


def test_rfa_with_the_target_mean_puts_every_row_at_the_targets_mean_component() -> None:
    X, Y = randn(20, 6, seed=1), randn(15, 6, seed=2) + 2
    gap = X.mean(dim=0) - Y.mean(dim=0)
    unit = gap / gap.norm()
    T, h = fit_rfa(X, Y, add_target_mean=True), randn(9, 6)
    torch.testing.assert_close(T(h) @ unit, (Y.mean(dim=0) @ unit).expand(9))
    torch.testing.assert_close(T(X).mean(dim=0) @ unit, Y.mean(dim=0) @ unit)
    plain = fit_rfa(X, Y)(h)
    torch.testing.assert_close(T(h) - plain, (torch.outer(unit, unit) @ Y.mean(dim=0)).expand(9, 6))


def test_ablating_the_mean_difference_is_rfa_whatever_its_length_and_sign() -> None:
    X, Y, h = randn(8, 5, seed=1), randn(9, 5, seed=2), randn(3, 5)
    gap = X.mean(dim=0) - Y.mean(dim=0)
    for factor in (1.0, -1.0, 1e-100, 1e100):
        torch.testing.assert_close(ablate_direction(gap * factor)(h), fit_rfa(X, Y)(h))


def test_ablation_of_nothing_is_refused() -> None:
    X = randn(6, 4)
    with pytest.raises(FitError, match="coincide"):
        fit_rfa(X, X.flip(0))
    for bad in (torch.zeros(4), torch.full((4,), torch.nan), torch.full((4,), torch.inf)):
        with pytest.raises(FitError, match="length above 0"):
            ablate_direction(bad)
    with pytest.raises(FitError, match=r"shape \(d,\)"):
        ablate_direction(X)


def least_squares_on_repeated_rows(X: torch.Tensor, Y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Brute force: repeat both sides to a common length, sort, and fit one line for each coordinate."""
    common = math.lcm(len(X), len(Y))
    x = np.sort(np.repeat(X.numpy(), common // len(X), axis=0), axis=0)
    y = np.sort(np.repeat(Y.numpy(), common // len(Y), axis=0), axis=0)
    lines = [np.polyfit(x[:, j], y[:, j], 1) for j in range(x.shape[1])]
    return np.array([line[0] for line in lines]), np.array([line[1] for line in lines])


@given(n=st.integers(2, 25), m=st.integers(1, 25), d=st.integers(1, 6), seed=seeds)
@relaxed
def test_act_is_least_squares_on_the_sorted_coupling(n: int, m: int, d: int, seed: int) -> None:
    X, Y = randn(n, d, seed=seed), randn(m, d, seed=seed + 1) * 2 + 5
    T = fit_act(X, Y)
    weight, bias = least_squares_on_repeated_rows(X, Y)
    np.testing.assert_allclose(T.weight.numpy(), weight, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(T.bias.numpy(), bias, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(T(X).mean(dim=0), Y.mean(dim=0))
    assert bool((T.weight >= 0).all())


def test_act_with_equal_counts_is_the_papers_formula() -> None:
    X, Y = randn(30, 4, seed=1), randn(30, 4, seed=2).exp()
    x, y = np.sort(X.numpy(), axis=0), np.sort(Y.numpy(), axis=0)
    weight = ((x - x.mean(0)) * (y - y.mean(0))).mean(0) / x.var(0)
    T = fit_act(X, Y)
    np.testing.assert_allclose(T.weight.numpy(), weight, rtol=1e-12)
    np.testing.assert_allclose(T.bias.numpy(), y.mean(0) - weight * x.mean(0), rtol=1e-12)


def test_act_recovers_an_affine_map_and_ignores_the_order_of_rows() -> None:
    X = randn(12, 3)
    slope, shift = torch.tensor([0.5, 1.0, 4.0]).double(), torch.tensor([-1.0, 0.0, 9.0]).double()
    T = fit_act(X, (X * slope + shift)[torch.randperm(12, generator=torch.Generator().manual_seed(1))])
    torch.testing.assert_close(T.weight, slope)
    torch.testing.assert_close(T.bias, shift)


def test_act_agrees_with_pca_ot_in_one_dimension_on_gaussian_quantiles() -> None:
    quantiles = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(99).double() + 0.5) / 99).unsqueeze(1)
    X, Y = 2 * quantiles + 1, 5 * quantiles - 3
    torch.testing.assert_close(fit_act(X, Y)(X), fit_pca_ot(X, Y, 1, ridge=0.0)(X))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8])
def test_a_constant_coordinate_is_only_shifted(value: float) -> None:
    X, Y = randn(7, 2, seed=1), randn(9, 2, seed=2)
    X[:, 1] = value
    T = fit_act(X, Y)
    assert float(T.weight[1]) == 1.0
    assert float(T.bias[1]) == pytest.approx(float(Y[:, 1].mean()) - value, rel=1e-12)
    assert T.metadata["constant_coordinates"] == 1
    single = fit_act(X[:1], Y)
    assert torch.equal(single.weight, torch.ones(2, dtype=torch.float64))


def test_the_interval_leaves_what_was_never_seen_alone() -> None:
    X, Y = randn(20, 3, seed=1), randn(20, 3, seed=2) * 3 + 4
    bounded, free = fit_act(X, Y, interval=True), fit_act(X, Y)
    torch.testing.assert_close(bounded(X), free(X))  # the ends belong to the interval
    h = X[:4].clone()
    h[:, 1] = X[:, 1].max() + torch.tensor([1e-9, 1.0, 10.0, 1e3]).double()
    h[:, 2] = X[:, 2].min() - 1e-9
    torch.testing.assert_close(bounded(h)[:, 0], free(h)[:, 0])
    assert torch.equal(bounded(h)[:, 1:], h[:, 1:])
    assert not bool((free(h)[:, 1:] == h[:, 1:]).any())
    assert free.low is None


@given(n=st.integers(1, 20), m=st.integers(1, 20), d=st.integers(1, 20), seed=seeds)
@relaxed
def test_mean_shift_matches_the_means_and_moves_all_alike(n: int, m: int, d: int, seed: int) -> None:
    X, Y = randn(n, d, seed=seed), randn(m, d, seed=seed + 1) + 3
    T = fit_mean_shift(X, Y)
    torch.testing.assert_close(T(X).mean(dim=0), Y.mean(dim=0))
    torch.testing.assert_close(T(X) - X, (Y.mean(dim=0) - X.mean(dim=0)).expand(n, d))


@pytest.mark.parametrize("fit", [fit_rfa, fit_act, fit_mean_shift])
def test_bad_rows_are_refused_by_every_fit(fit: Callable[..., object]) -> None:
    X, Y = randn(5, 4), randn(6, 4, seed=1)
    broken = X.clone()
    broken[2, 0] = torch.inf
    for source, target, message in (
        (broken, Y, "Row 2 of the source"),
        (X, Y[:, :3], "width"),
        (X[0], Y, "shape"),
        (X, Y.long(), "floating"),
        (X[:0], Y, "at least one row"),
    ):
        with pytest.raises(FitError, match=message):
            fit(source, target)
