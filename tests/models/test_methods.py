"""Methods: sequential fitting against fitting one block at a time, shared decompositions, Arditi's three sites."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import bures.transport.gaussian
from bures.errors import ConfigError, FitError
from bures.models.activations import collect
from bures.models.fitting import FitData, at_sites, build, fit_in_sequence
from bures.models.intervention import Intervention, Site, count_hooks
from bures.models.loading import ChatModel, wrap
from bures.models.methods import METHODS, FitOptions, fit_block, fit_of
from bures.models.prompt_stream import PromptStream
from bures.results.records import Candidate, Scope
from bures.transport import DiagonalAffine, LowRankAffine, TransportMap, fit_act, fit_mean_shift, fit_pca_ot, fit_rfa
from helpers import reference, tiny

SOURCE = tiny.PROMPTS
TARGET = tuple(f"{prompt} Thank you!" for prompt in tiny.PROMPTS[::-1])
NAMES = tuple(METHODS)
RFA_SITES = Candidate("rfa", (1,), None, "all", sites=True)


def split(target: dict[int, Tensor], strength: float = 1.0) -> FitData:
    """A fit split whose source activations nobody asks for."""
    return FitData(SOURCE, {}, target, FitOptions(), strength)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@cache
def lively(family: str) -> ChatModel:
    """A random model whose blocks do a good deal, so that an error in their order shows."""
    hf = tiny.network(family)
    with torch.no_grad():
        for parameter in hf.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)
    return wrap(hf, tiny.tokenizer(), family)


def by_turns(
    model: ChatModel, targets: dict[int, Tensor], fit: Any, tokens: Scope, strength: float
) -> dict[int, TransportMap]:
    """Collect under all earlier maps, fit, next block."""
    maps: dict[int, TransportMap] = {}
    for block, target in targets.items():
        with Intervention({**maps}, tokens=tokens, strength=strength).applied(model):
            maps[block] = fit(collect(model, SOURCE, blocks=[block])[block], target)
    return maps


def assert_same(left: TransportMap, right: TransportMap, *, tolerance: float = 1e-5) -> None:
    """The maps do the same to any h."""
    h = randn(20, left.dim, seed=9).double()
    torch.testing.assert_close(left(h), right(h), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("tokens", ["all", "last", "prompt"])
@pytest.mark.parametrize("name", ["mean-act", "act", "pca-ot"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_fitting_in_sequence_is_fitting_by_turns(family: str, name: str, tokens: Scope, strength: float) -> None:
    model = lively(family)
    targets = collect(model, TARGET)
    fit = fit_of(name, 1, FitOptions())
    hooks = count_hooks(model)
    maps = fit_in_sequence(model, split(targets, strength), [*targets], fit, tokens=tokens)
    assert count_hooks(model) == hooks
    assert list(maps) == [0, 1, 2]
    for block, expected in by_turns(model, targets, fit, tokens, strength).items():
        assert_same(maps[block], expected)
    untouched = fit(collect(model, SOURCE, blocks=[2])[2], targets[2])
    h = randn(20, model.d_model, seed=9).double()
    assert float((maps[2](h) - untouched(h)).abs().max()) > 1e-2  # the order matters


@pytest.mark.parametrize("tokens", ["all", "last", "prompt", "generated"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_is_held_from_walk_to_walk_changes_no_fit(family: str, tokens: Scope) -> None:
    """Prompts with a long common beginning, fitted over the cache and again over what the first walk left."""
    model, system = lively(family), "You answer in one short sentence."
    model.entries.over_prefix = model.entries.over_cache = None
    target = collect(model, TARGET, system=system)
    move = Intervention({1: fit_mean_shift(target[1], target[1] + 1)}, "last")
    PromptStream(model, SOURCE, system=system).first_token(move)  # tries the cache
    data = replace(split(target), system=system)
    fit = fit_of("act", None, FitOptions())
    for blocks in ([0, 2], [0, 1, 2]):
        maps = fit_in_sequence(model, data, blocks, fit, tokens=tokens)
        found: dict[int | Site, TransportMap] = {}
        for block in blocks:
            with Intervention({**found}, tokens=tokens).applied(model):
                model.entries.over_prefix = False
                rows = collect(model, SOURCE, blocks=[block], system=system)[block]
                model.entries.over_prefix = None
            found[block] = fit(rows, target[block])
            assert_same(maps[block], found[block], tolerance=1e-4)
    model.entries.over_prefix = model.entries.over_cache = None


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_fits_see_moved_activations(family: str) -> None:
    model = lively(family)
    targets = collect(model, TARGET)
    seen: list[Tensor] = []

    def fit(source: Tensor, target: Tensor) -> TransportMap:
        seen.append(source.clone())
        return fit_mean_shift(source, target)

    maps = fit_in_sequence(model, split(targets), [*targets], fit, tokens="all")
    plain = collect(model, SOURCE)
    torch.testing.assert_close(seen[0], plain[0], rtol=1e-4, atol=1e-6)
    for block in (1, 2):
        earlier: dict[int | Site, TransportMap] = {b: maps[b] for b in range(block)}
        with Intervention(earlier).applied(model):
            torch.testing.assert_close(seen[block], collect(model, SOURCE, blocks=[block])[block], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(seen[block], plain[block], rtol=1e-3, atol=1e-5)


def test_only_the_blocks_of_the_targets_are_moved() -> None:
    llama = lively("llama")
    targets = {block: rows for block, rows in collect(llama, TARGET).items() if block != 1}
    maps = fit_in_sequence(llama, split(targets), [*targets], fit_mean_shift, tokens="all")
    for block, expected in by_turns(llama, targets, fit_mean_shift, "all", 1.0).items():
        assert_same(maps[block], expected)
    assert list(maps) == [0, 2]


def test_no_hook_hangs_on_the_model_while_or_after_a_fit_fails(llama: ChatModel) -> None:
    hooks = count_hooks(llama)

    def fit(source: Tensor, target: Tensor) -> TransportMap:
        assert count_hooks(llama) == hooks
        raise FitError("no.")

    with pytest.raises(FitError):
        fit_in_sequence(llama, split(collect(llama, TARGET)), range(3), fit, tokens="all")
    assert count_hooks(llama) == hooks


def test_a_fit_that_fails_names_its_block(llama: ChatModel) -> None:
    targets = collect(llama, TARGET) | {1: torch.full((8, llama.d_model), float("nan"))}
    with pytest.raises(FitError, match="block 1"):
        fit_in_sequence(llama, split(targets), [*targets], fit_mean_shift, tokens="all")


def test_overflow_on_the_way_is_refused_and_the_block_is_named(llama: ChatModel) -> None:
    def fit(source: Tensor, target: Tensor) -> TransportMap:
        return DiagonalAffine(
            kind="huge", weight=torch.full((32,), 1e38, dtype=torch.float64), bias=torch.full((32,), 1e38).double()
        )

    with pytest.raises(FitError, match=r"after block [12] are NaN or infinite") as caught:
        fit_in_sequence(llama, split(collect(llama, TARGET)), range(3), fit, tokens="all")
    assert "\n" not in str(caught.value)


# One block --------------------------------------------------------------------------------------------------------


def test_fit_block_shares_one_decomposition_and_equals_separate_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = randn(20, 12), randn(20, 12, seed=1) + 0.5
    calls: list[int] = []
    subspace = bures.transport.gaussian.principal_subspace

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return subspace(*args, **kwargs)

    monkeypatch.setattr(bures.transport.gaussian, "principal_subspace", counted)
    for options in (FitOptions(), FitOptions(ridge=0.1), FitOptions(ridge=0.0, shrinkage="oas")):
        calls.clear()
        maps = fit_block("pca-ot", X, Y, (1, 2, 4), options)
        assert len(calls) == 1
        assert list(maps) == [1, 2, 4]
        for rank, map_ in maps.items():
            assert isinstance(map_, LowRankAffine)
            assert map_.rank == rank
            assert_same(map_, fit_pca_ot(X, Y, rank, **options.keywords()), tolerance=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if not METHODS[name].ranked])
def test_methods_without_a_rank_have_one_map(name: str) -> None:
    X, Y = randn(20, 12), 0.7 * randn(20, 12, seed=1) + 0.5
    expected = {
        "rfa": lambda: fit_rfa(X, Y),
        "rfa-mean": lambda: fit_rfa(X, Y, add_target_mean=True),
        "act": lambda: fit_act(X, Y),
        "act-interval": lambda: fit_act(X, Y, interval=True),
        "mean-act": lambda: fit_mean_shift(X, Y),
    }[name]()
    maps = fit_block(name, X, Y, (1, 2), FitOptions())
    assert list(maps) == [0]
    assert_same(maps[0], expected, tolerance=1e-12)
    far = 50 * randn(5, 12).double()  # outside the interval of the source
    torch.testing.assert_close(maps[0](far), expected(far))


@pytest.mark.parametrize("name", NAMES)
def test_the_two_sides_may_differ_in_number(name: str) -> None:
    X, Y = randn(20, 12), randn(30, 12, seed=1) + 0.5
    assert fit_block(name, X, Y, (1,), FitOptions())


def test_unknown_methods_and_missing_ranks_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown method 'none'; expected one of pca-ot, "):
        fit_of("none", None, FitOptions())
    with pytest.raises(ConfigError, match="pca-ot needs a rank"):
        fit_of("pca-ot", None, FitOptions())


def test_options_left_out_are_left_to_the_fit() -> None:
    assert "ridge" not in FitOptions().keywords()
    assert FitOptions(ridge=0.0).keywords()["ridge"] == 0.0
    assert FitOptions(shrinkage="oas").keywords()["shrinkage"] == "oas"


# Interventions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_one_block_is_fitted_on_what_was_collected(llama: ChatModel, name: str) -> None:
    source, target = collect(llama, SOURCE), collect(llama, TARGET)
    rank = 2 if METHODS[name].ranked else None
    move = build(llama, Candidate(name, (1,), rank, "last"), FitData(SOURCE, source, target, FitOptions(), 0.5))
    assert (move.tokens, move.strength, move.blocks) == ("last", 0.5, (1,))
    assert_same(move.maps[1], fit_of(name, rank, FitOptions())(source[1], target[1]), tolerance=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_several_blocks_are_fitted_in_sequence_unless_the_method_projects(name: str) -> None:
    llama = lively("llama")
    source, target = collect(llama, SOURCE), collect(llama, TARGET)
    rank = 1 if METHODS[name].ranked else None
    move = build(llama, Candidate(name, (2, 0), rank, "all"), FitData(SOURCE, source, target, FitOptions()))
    assert move.blocks == (0, 2)
    fit = fit_of(name, rank, FitOptions())
    apart: dict[int, TransportMap] = {block: fit(source[block], target[block]) for block in (0, 2)}
    turns = by_turns(llama, {block: target[block] for block in (0, 2)}, fit, "all", 1.0)
    assert METHODS[name].sequential == (name not in ("rfa", "rfa-mean"))
    expected = turns if METHODS[name].sequential else apart
    for block in (0, 2):
        assert_same(move.maps[block], expected[block])
    h = randn(20, llama.d_model, seed=9).double()
    assert float((turns[2](h) - apart[2](h)).abs().max()) > 1e-2  # the two could be told apart


# Arditi et al. ----------------------------------------------------------------------------------------------------


def test_one_direction_at_three_sites_of_every_block() -> None:
    X, Y = randn(9, 6), randn(8, 6, seed=1) + 1
    gap = X.double().mean(dim=0) - Y.double().mean(dim=0)
    unit = gap / gap.norm()
    sites = at_sites(RFA_SITES, fit_rfa(X, Y), 3, 1.0).maps
    assert set(sites) == {Site(block, where) for block in range(3) for where in ("input", "attention", "mlp")}
    h = randn(7, 6, seed=5).double()
    for map_ in sites.values():
        torch.testing.assert_close(map_(h), h - (h @ unit)[:, None] * unit)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_direction_is_gone_from_the_residual_stream_after_every_block(family: str) -> None:
    hf = tiny.network(family)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if "norm" in name:  # as after training: no two weights alike
                parameter.copy_(torch.rand_like(parameter) + 0.5)
    model = wrap(hf, tiny.tokenizer(), family)
    source, target = collect(model, SOURCE), collect(model, TARGET)
    map_ = fit_rfa(source[1], target[1])
    unit = map_.basis_in[:, 0]
    assert float((source[2].double() @ unit).abs().max()) > 1e-3
    with at_sites(RFA_SITES, map_, 3, 1.0).applied(model):
        rows = collect(model, SOURCE)
    for block in range(3):
        share = (rows[block].double() @ unit).abs() / rows[block].double().norm(dim=1)
        assert float(share.max()) < 1e-5, block


def test_the_dense_reference_of_these_tests_is_the_map() -> None:
    for map_ in (reference.low_rank(6), reference.shift(6)):
        h = randn(4, 6).double()
        torch.testing.assert_close(reference.dense(map_)(h), map_(h))
