"""Streaming moments against NumPy, over batchings, merges, dtypes and offsets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bures.errors import FitError
from bures.transport.moments import MomentAccumulator, Moments


def rows(n: int, d: int, seed: int, offset: float = 0.0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64) + offset


def gather(batches: list[torch.Tensor], *, covariance: bool = True) -> MomentAccumulator:
    accumulator = MomentAccumulator(batches[0].shape[1], covariance=covariance)
    for batch in batches:
        accumulator.update(batch)
    return accumulator


def assert_equal(a: Moments, b: Moments) -> None:
    assert a.n == b.n
    torch.testing.assert_close(a.mean, b.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(a.variance, b.variance, rtol=1e-10, atol=1e-12)
    assert a.covariance is not None
    assert b.covariance is not None
    torch.testing.assert_close(a.covariance, b.covariance, rtol=1e-10, atol=1e-10)


@given(
    n=st.integers(1, 60),
    d=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
    data=st.data(),
)
@settings(deadline=None, max_examples=50)
def test_batching_and_merging_do_not_matter(n: int, d: int, seed: int, offset: float, data: st.DataObject) -> None:
    X = rows(n, d, seed, offset)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
    batches = [X[a:b] for a, b in zip([0, *cuts], [*cuts, n], strict=True)]  # some are empty
    whole = gather([X]).finish()
    assert_equal(gather(batches).finish(), whole)
    merged = MomentAccumulator(d)
    for batch in data.draw(st.permutations(batches)):
        merged.merge(gather([batch]))
    assert_equal(merged.finish(), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_moments_equal_numpy_in_float64(dtype: torch.dtype) -> None:
    X = rows(200, 5, 0, offset=3.0).to(dtype)
    moments = gather(list(X.split(7))).finish()
    exact = X.double().numpy()
    np.testing.assert_allclose(moments.mean.numpy(), exact.mean(axis=0), rtol=1e-13)
    assert moments.covariance is not None
    np.testing.assert_allclose(moments.covariance.numpy(), np.cov(exact.T, bias=True), atol=1e-13)
    assert moments.mean.dtype == moments.covariance.dtype == moments.variance.dtype == torch.float64


def test_a_large_offset_does_not_drown_the_variance() -> None:
    """Sums of squares would leave nothing of a variance of 1 at an offset of 1e8."""
    X = rows(500, 3, 1)
    moments = gather(list((X + 1e8).split(50))).finish()
    np.testing.assert_allclose(moments.variance.numpy(), X.numpy().var(axis=0), rtol=1e-6)


def test_without_covariance_the_variance_is_the_same_and_no_square_matrix_is_made() -> None:
    X = rows(30, 6, 2)
    lean, full = gather([X[:11], X[11:]], covariance=False).finish(), gather([X]).finish()
    assert lean.covariance is None
    torch.testing.assert_close(lean.variance, full.variance)
    wide = rows(4, 200_000, 3)  # its covariance would take 320 GB
    moments = gather([wide[:2], wide[2:]], covariance=False).finish()
    torch.testing.assert_close(moments.variance, wide.var(dim=0, correction=0))


def test_finishing_is_a_snapshot() -> None:
    X = rows(20, 3, 4)
    accumulator = gather([X[:10]])
    early = accumulator.finish()
    kept = early.mean.clone()
    accumulator.update(X[10:])
    assert torch.equal(early.mean, kept)
    assert_equal(accumulator.finish(), gather([X]).finish())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_named_and_nothing_is_taken_in(bad: float) -> None:
    accumulator = gather([rows(5, 3, 5)])
    before = accumulator.finish()
    batch = rows(4, 3, 6)
    batch[2, 1] = bad
    with pytest.raises(FitError, match=r"Row 2 of this batch \(7 of all\)"):
        accumulator.update(batch)
    assert_equal(accumulator.finish(), before)


def test_misuse_is_refused() -> None:
    with pytest.raises(FitError, match="no rows"):
        MomentAccumulator(3).finish()
    with pytest.raises(FitError, match=r"\(n, 3\)"):
        MomentAccumulator(3).update(rows(2, 4, 0))
    with pytest.raises(FitError, match=r"\(n, 3\)"):
        MomentAccumulator(3).update(torch.zeros(3))
    with pytest.raises(FitError, match="merged"):
        MomentAccumulator(3).merge(MomentAccumulator(3, covariance=False))
    with pytest.raises(FitError, match="at least 1"):
        MomentAccumulator(0)
