"""Directions found one after the other: orthogonal, taken away everywhere, and there before they are taken away."""

from __future__ import annotations

import pytest
import torch

from bures.errors import FitError
from bures.models.activations import collect
from bures.models.loading import ChatModel
from bures.models.subspaces import Directions
from bures.transport import ablate_direction, ablate_subspace
from helpers import tiny

ASKED = tuple(f"Paint the {colour} gate" for colour in ("red", "blue", "green", "grey", "white"))


def test_each_direction_is_new_and_gone_once_it_is_projected_out(llama: ChatModel) -> None:
    found = Directions()
    for k in range(1, 4):
        found = found.further(llama, ASKED, tiny.PROMPTS, [0, 1, 2])[0]
        assert len(found) == len(found.blocks) == k
        basis = torch.stack(found.found, dim=1)
        torch.testing.assert_close(basis.T @ basis, torch.eye(k, dtype=torch.float64), atol=1e-9, rtol=0)
        with found.everywhere(3).applied(llama):
            rows = collect(llama, ASKED)
        for block in range(3):
            assert float((rows[block].double() @ basis).abs().max()) < 1e-5
    plain = collect(llama, ASKED)
    assert max(float((plain[block].double() @ found.found[0]).abs().max()) for block in range(3)) > 1e-3


def test_there_is_a_difference_of_means_for_each_block_and_first_the_one_that_is_largest_for_its_spread(
    llama: ChatModel,
) -> None:
    every = Directions().further(llama, ASKED, tiny.PROMPTS, [0, 1, 2])
    X, Y = collect(llama, ASKED), collect(llama, tiny.PROMPTS)
    gaps = {b: X[b].double().mean(0) - Y[b].double().mean(0) for b in range(3)}
    ratio = {b: float(gaps[b] @ gaps[b] / (X[b].double().var(0).sum() + Y[b].double().var(0).sum())) for b in range(3)}
    assert [each.blocks for each in every] == [(b,) for b in sorted(ratio, key=lambda b: -ratio[b])]
    for each in every:
        gap = gaps[each.blocks[0]]
        torch.testing.assert_close(each.found[0], gap / gap.norm())


def test_they_are_kept_without_loss_and_none_is_told(llama: ChatModel) -> None:
    found = Directions().further(llama, ASKED, tiny.PROMPTS, [1])[0]
    again = Directions.of(found.rows())
    assert torch.equal(again.found[0], found.found[0])
    assert again.blocks == (1,)
    assert not Directions().everywhere(3).maps
    with pytest.raises(FitError, match="no direction has been found"):
        Directions().ablation()
    with pytest.raises(FitError, match="no direction is left"):
        Directions().further(llama, ASKED, ASKED, [1])


def test_the_ablation_of_a_subspace_is_the_projection_by_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(12, 3, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 100.0, 1e-3])
    h = torch.randn(7, 12, generator=generator, dtype=torch.float64)
    moved = ablate_subspace(columns)(h)
    inside = (columns @ torch.linalg.lstsq(columns, h.T).solution).T
    torch.testing.assert_close(moved, h - inside)
    torch.testing.assert_close(ablate_subspace(columns[:, :1])(h), ablate_direction(columns[:, 0])(h))
    for wrong in (columns[:, [0, 0]], columns[:, 0], columns[:, :0], columns * float("nan"), columns.long()):
        with pytest.raises(FitError):
            ablate_subspace(wrong)
