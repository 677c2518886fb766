"""Rows that are hard on a fit: each gives a right map or an error that says why; none gives NaN or a wrong map."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bures.errors import FitError
from bures.transport import fit_act, fit_mean_shift, fit_pca_ot, fit_rfa

N, D = 12, 8


def _noise(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _pair(spoil: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    return spoil(_noise(N, D, 0)) + 1.0, spoil(_noise(N, D, 1))


def _massive(x: Tensor) -> Tensor:
    """One coordinate of "massive activations" (Sun et al. 2024, arXiv 2402.17762), nearly the same in every row."""
    return torch.cat([x[:, :-1], 3e4 + x[:, -1:]], dim=1)


ROWS: dict[str, tuple[Tensor, Tensor]] = {
    "plain": _pair(lambda x: x),
    "of rank two": _pair(lambda x: x[:, :2] @ _noise(2, D, 7)),
    "of rank one": _pair(lambda x: x[:, :1] @ _noise(1, D, 7)),
    "all the same": _pair(lambda x: torch.ones_like(x)),
    "every row twice": _pair(lambda x: x[: N // 2].repeat(2, 1)),
    "one coordinate constant": _pair(lambda x: torch.cat([x[:, :-1], torch.zeros(N, 1, dtype=x.dtype)], dim=1)),
    "two rows": _pair(lambda x: x[:2]),
    "one row": _pair(lambda x: x[:1]),
    "both sides the same": (_noise(N, D, 0), _noise(N, D, 0)),
    "massive coordinate": _pair(_massive),
    "massive in one row": _pair(lambda x: torch.cat([x[:-1], x[-1:] * 1e5])),
    "tiny": _pair(lambda x: x * 1e-20),
    "huge": _pair(lambda x: x * 1e15),
    "no rows": _pair(lambda x: x[:0]),
    "NaN": _pair(lambda x: x.index_fill(0, torch.tensor([0]), float("nan"))),
    "infinite": _pair(lambda x: x.index_fill(0, torch.tensor([0]), float("inf"))),
}

FITS: dict[str, Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]]] = {
    "rfa": fit_rfa,
    "act": fit_act,
    "mean-act": fit_mean_shift,
    "pca-ot K=1": lambda x, y: fit_pca_ot(x, y, rank=1),
    "pca-ot K=4": lambda x, y: fit_pca_ot(x, y, rank=4),
}


def _fitted(method: str, source: Tensor, target: Tensor) -> Callable[[Tensor], Tensor] | None:
    try:
        return FITS[method](source, target)
    except FitError:
        return None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("method", FITS)
def test_a_map_is_right_or_an_error_says_why(method: str, rows: str, dtype: torch.dtype) -> None:
    source, target = (side.to(dtype) for side in ROWS[rows])
    if not (torch.isfinite(source).all() and torch.isfinite(target).all()):
        with pytest.raises(FitError):
            FITS[method](source, target)
        return
    map_ = _fitted(method, source, target)
    if map_ is None:
        assert rows not in ("plain", "every row twice", "massive coordinate")
        return
    wide, goal = source.double(), target.double()
    moved = map_(source.float()).double()
    assert bool(torch.isfinite(moved).all())
    scale = float(max(wide.abs().max(), goal.abs().max(), torch.tensor(1e-30)))
    if method in ("act", "mean-act"):  # every coordinate's mean becomes the target's
        assert float((moved.mean(0) - goal.mean(0)).abs().max()) <= 1e-4 * scale
    elif method == "rfa":  # nothing is left along the gap
        gap = wide.mean(0) - goal.mean(0)
        if float(gap.norm()) > 1e-6 * scale:
            assert float((moved @ (gap / gap.norm())).abs().max()) <= 1e-3 * scale * D**0.5
    else:  # the mean becomes the target's in the map's plane, and nothing grows beyond the two sides
        assert float(moved.abs().max()) <= 20.0 * scale
        before, after = ((each.mean(0) - goal.mean(0)).norm() for each in (wide, moved))
        assert float(after) <= float(before) * 1.001 + 1e-4 * scale
