"""A map in a hook is the map: against the dense matrix in float64, with outliers, on other dtypes, under autocast."""

from __future__ import annotations

import pytest
import torch

from bures.errors import ConfigError
from bures.transport import DiagonalAffine, LowRankAffine, interpolate
from bures.transport.prepared import prepared
from helpers import reference

D = 24
CPU = torch.device("cpu")
MAPS = {
    "rank 1": reference.low_rank(D, rank=1),
    "rank 3": reference.low_rank(D, rank=3),
    "shift": reference.shift(D),
    "interval": DiagonalAffine(
        "random",
        torch.linspace(0.5, 2.0, D).double(),
        torch.ones(D).double(),
        torch.full((D,), -0.5).double(),
        torch.full((D,), 0.8).double(),
    ),
}


def activations(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4,), ()])
def test_it_is_the_map_in_float64(name: str, shape: tuple[int, ...]) -> None:
    h = activations(*shape)
    before = h.clone()
    found = prepared(MAPS[name], CPU, torch.float64)(h)
    torch.testing.assert_close(found, MAPS[name](h), rtol=1e-12, atol=1e-12)
    assert torch.equal(h, before)


@pytest.mark.parametrize("name", ["rank 1", "rank 3", "shift"])
def test_it_is_the_dense_matrix(name: str) -> None:
    h = activations(7)
    wanted = torch.stack([reference.dense(MAPS[name], 0.7)(row) for row in h])
    found = prepared(interpolate(MAPS[name], 0.7), CPU, torch.float64)(h)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_result_is_of_the_dtype_of_h(name: str, dtype: torch.dtype) -> None:
    h = activations(2, 3).to(dtype)
    found = prepared(MAPS[name], CPU, torch.float32)(h)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), MAPS[name](h.double()), rtol=2 * torch.finfo(dtype).eps, atol=1e-5)


def test_a_coordinate_that_is_always_large_costs_no_precision() -> None:
    away = 1e5 * torch.nn.functional.one_hot(torch.tensor(2), D).double()
    base = MAPS["rank 3"]
    assert isinstance(base, LowRankAffine)
    map_ = LowRankAffine("random", base.mean + away, base.basis_in, base.matrix, base.offset, base.basis_out)
    h = (activations(5) + away).float()
    wanted = map_(h.double()) - h.double()
    found = prepared(map_, CPU, torch.float32)(h).double() - h.double()
    small = torch.arange(D) != 2  # the large one has float32's own steps
    torch.testing.assert_close(found[:, small], wanted[:, small], rtol=1e-3, atol=1e-3)


def test_autocast_does_not_reach_it() -> None:
    h = activations(2, 3).float()
    move = prepared(MAPS["rank 3"], CPU, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = move(h)
    torch.testing.assert_close(found, move(h), rtol=1e-5, atol=1e-5)


def test_another_width_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"acts on width {D}"):
        prepared(MAPS["rank 1"], CPU, torch.float32)(torch.zeros(3, D + 1))
