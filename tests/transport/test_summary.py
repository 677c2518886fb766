"""A map's summary against brute force: the whole Jacobian, and what the map does to the rows that it was fitted on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bures.transport import (
    DiagonalAffine,
    LowRankAffine,
    ablate_direction,
    fit_act,
    fit_mean_shift,
    fit_pca_ot,
    fit_rfa,
    interpolate,
)

FITS: dict[str, Callable[[Tensor, Tensor], LowRankAffine | DiagonalAffine]] = {
    "pca-ot": lambda X, Y: fit_pca_ot(X, Y, 3),
    "rfa": fit_rfa,
    "rfa-mean": lambda X, Y: fit_rfa(X, Y, add_target_mean=True),
    "act": fit_act,
    "act-interval": lambda X, Y: fit_act(X, Y, interval=True),
    "mean-act": fit_mean_shift,
    "half": lambda X, Y: interpolate(fit_pca_ot(X, Y, 3, shrinkage="oas"), 0.5),
    "twice": lambda X, Y: interpolate(fit_rfa(X, Y), 2.0),
}


def rows() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    scale = torch.linspace(0.5, 3.0, 9, dtype=torch.float64)
    X = torch.randn(40, 9, generator=random, dtype=torch.float64) * scale + 2.0
    return X, torch.randn(30, 9, generator=random, dtype=torch.float64) * scale.flip(0)


@pytest.mark.parametrize("name", FITS)
def test_the_figures_are_those_of_brute_force(name: str) -> None:
    X, Y = rows()
    T = FITS[name](X, Y)
    found = T.summary()
    jacobian: Tensor = torch.autograd.functional.jacobian(T, X.median(dim=0).values)  # pyright: ignore
    values = sorted(torch.linalg.eigvals(jacobian).real.tolist(), reverse=True)
    others = [1.0] * (9 - len(found.stretch))  # of directions that a map of low rank leaves alone
    assert sorted([*found.stretch, *others], reverse=True) == pytest.approx(values, abs=1e-9)

    moved, gap = (T(X) - X).mean(dim=0), Y.mean(dim=0) - X.mean(dim=0)
    assert found.shift == pytest.approx(float(moved.norm()))
    cosine = float(moved @ gap / (moved.norm() * gap.norm()))
    assert found.angle_to_rfa == pytest.approx(math.degrees(math.acos(max(-1.0, min(1.0, cosine)))), abs=1e-4)


def test_a_turn_has_the_moduli_of_its_eigenvalues() -> None:
    basis = torch.eye(4, 2, dtype=torch.float64)
    turn = torch.tensor([[0.0, -2.0], [2.0, 0.0]], dtype=torch.float64) - torch.eye(2, dtype=torch.float64)
    zero = torch.zeros(4, dtype=torch.float64)
    T = LowRankAffine("turn", zero, basis, turn, zero[:2], basis)
    assert T.summary().stretch == pytest.approx((2.0, 2.0))


def test_what_a_map_does_not_know_is_left_out() -> None:
    T = ablate_direction(torch.ones(5))
    assert (T.summary().shift, T.summary().angle_to_rfa, T.summary().gap_held) == (None, None, None)
    assert repr(T.summary()) == "Summary(kind ablation, d 5, K 1, stretch 0.00)"
    X, _ = rows()
    assert fit_mean_shift(X, X).summary().angle_to_rfa is None


def test_maps_and_summaries_are_one_line_in_a_notebook() -> None:
    X, Y = rows()
    assert repr(fit_pca_ot(X, Y, 9)) == "LowRankAffine(pca-ot, d 9, K 9, gap 100 %)"
    assert repr(fit_act(X, Y, interval=True)) == "DiagonalAffine(linear-act, d 9, per coordinate, in an interval)"
    half = interpolate(fit_mean_shift(X, Y), 0.5).to(dtype=torch.float32)
    assert repr(half) == "DiagonalAffine(mean-shift, d 9, per coordinate, strength 0.5, float32)"
    assert "\n" not in repr(half.summary())
    odd = replace(fit_rfa(X, Y), kind="<b>\n")
    assert "&lt;b&gt;" in odd.summary()._repr_html_()
    assert "\n" not in repr(odd)
