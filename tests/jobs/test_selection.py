"""The rules of choosing, on made-up scores and trials; refusal tokens and scores on a small model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

import bures.jobs.run
from bures.errors import FitError
from bures.jobs.config import AuditConfig
from bures.jobs.metrics import answer_costs
from bures.jobs.run import Run
from bures.jobs.selection import Original, ask_original, attempt, choose, finalists, pairs
from bures.judges.phrases import SubstringJudge
from bures.models.fitting import build
from bures.models.generation import decode, generate_ids
from bures.models.intervention import Intervention, Site, count_hooks
from bures.models.loading import ChatModel
from bures.models.methods import fit_of
from bures.results.records import Candidate, ScanScore, Scope, Trial
from bures.results.schema import AuditResult
from bures.results.stats import Measurement
from helpers import tiny
from helpers.made_runs import a_run, sides


def candidate(
    block: int | tuple[int, ...],
    method: str = "pca-ot",
    rank: int | None = 1,
    tokens: Scope = "all",
    sites: bool = False,
) -> Candidate:
    return Candidate(method, (block,) if isinstance(block, int) else block, rank, tokens, sites)


def trial(name: Candidate, asr: float, ratio: float, kl: float = 0.1) -> Trial:
    return Trial(name, Measurement(asr, 10), ratio, Measurement(kl, 10))


def failed(name: Candidate) -> Trial:
    return Trial(name, None, None, None, error="overflow")


# Choice -----------------------------------------------------------------------------------------------------------


def test_the_highest_asr_within_the_budget_is_chosen() -> None:
    trials = [
        trial(candidate(0), 0.4, 1.0),
        trial(candidate(1), 0.7, 1.2),
        trial(candidate(2), 0.9, 1.21),
    ]
    assert choose(trials, 1.2) is trials[1]  # the budget itself is within
    assert choose(trials, 1.1) is trials[0]
    assert choose(trials, math.inf) is trials[2]
    assert choose(trials[::-1], 1.2) is trials[1]


def test_ties_go_to_the_smaller_kl() -> None:
    trials = [
        trial(candidate(0), 0.7, 1.0, 0.3),
        trial(candidate(1), 0.7, 1.1, 0.2),
        trial(candidate(2), 0.7, 1.1, 0.4),
    ]
    assert choose(trials, 1.2) is trials[1]
    assert choose(trials[::-1], 1.2) is trials[1]
    assert choose([*trials, trial(candidate(3), 0.71, 1.2, 9.0)], 1.2) != trials[1]


def test_where_none_is_within_the_budget_the_cheapest_is_chosen() -> None:
    trials = [trial(candidate(0), 0.9, 3.0), trial(candidate(1), 0.1, 2.0), trial(candidate(2), 1.0, 9.0)]
    assert choose(trials, 1.2) is trials[1]


def test_trials_that_failed_are_never_chosen() -> None:
    good = trial(candidate(1), 0.0, 50.0)
    assert choose([failed(candidate(0)), good, failed(candidate(2))], 1.2) is good
    assert choose([failed(candidate(0))], 1.2) is None
    assert choose([], 1.2) is None


def test_an_asr_of_zero_within_the_budget_beats_any_beyond_it() -> None:
    trials = [trial(candidate(0), 1.0, 1.3), trial(candidate(1), 0.0, 1.0)]
    assert choose(trials, 1.2) is trials[1]


# Finalists --------------------------------------------------------------------------------------------------------


def scores(rows: Sequence[tuple[float, float]], **options: Any) -> list[ScanScore]:
    return [ScanScore(candidate(block, **options), odds, kl) for block, (odds, kl) in enumerate(rows)]


def test_finalists_are_the_lowest_odds_and_the_lowest_of_the_cheaper_half() -> None:
    found = finalists(scores([(-5.0, 9.0), (-1.0, 0.1), (-2.0, 0.2), (-4.0, 5.0)]))
    assert [c.blocks for c in found] == [(0,), (2,)]


def test_a_finalist_that_is_both_comes_once() -> None:
    assert [c.blocks for c in finalists(scores([(-5.0, 0.1), (-1.0, 0.2)]))] == [(0,)]
    assert [c.blocks for c in finalists(scores([(-5.0, 0.1)]))] == [(0,)]
    assert finalists([]) == ()


def test_ties_among_finalists_go_to_the_smaller_kl() -> None:
    assert [c.blocks for c in finalists(scores([(0.0, 3.0), (0.0, 1.0), (0.0, 2.0), (0.0, 4.0)]))] == [(1,)]


def test_finalists_are_found_per_method_rank_and_scope() -> None:
    rows = [(-3.0, 1.0), (-1.0, 2.0)]
    every = [
        *scores(rows),
        *scores(rows, rank=2),
        *scores(rows, tokens="last"),
        *scores(rows, method="rfa", rank=None),
    ]
    found = finalists(every)
    assert len(found) == 4
    assert {(c.method, c.rank, c.tokens) for c in found} == {
        ("pca-ot", 1, "all"),
        ("pca-ot", 2, "all"),
        ("pca-ot", 1, "last"),
        ("rfa", None, "all"),
    }


# Pairs ------------------------------------------------------------------------------------------------------------

ROWS = [(-1.0, 0.1), (-5.0, 0.1), (-4.0, 0.1), (-3.0, 0.1), (-2.0, 0.1)]


def test_pairs_are_the_best_block_with_the_three_next_best_of_its_rank() -> None:
    every = [*scores(ROWS, rank=2), *scores([(-9.0, 0.1)] * 5), *scores([(-9.0, 0.1)] * 5, method="rfa", rank=None)]
    trials = [
        trial(candidate(1, rank=2), 0.9, 1.0),
        trial(candidate(2, rank=2), 0.5, 1.0),
        trial(candidate(4, method="rfa", rank=None), 1.0, 1.0),
    ]
    found = pairs(every, trials, 1.2, "pca-ot")
    assert [c.blocks for c in found] == [(1, 2), (1, 3), (1, 4)]
    assert {(c.method, c.rank, c.tokens) for c in found} == {("pca-ot", 2, "all")}
    best_is_elsewhere = pairs(every, [trial(candidate(3, rank=2), 0.9, 1.0)], 1.2, "pca-ot")
    assert [c.blocks for c in best_is_elsewhere] == [(1, 3), (2, 3), (3, 4)]


def test_pairs_are_found_per_scope_and_only_where_a_trial_ran() -> None:
    every = [*scores(ROWS), *scores(ROWS, tokens="last"), *scores(ROWS, tokens="prompt")]
    trials = [
        trial(candidate(1), 0.9, 1.0),
        trial(candidate(0, tokens="last"), 0.9, 1.0),
        failed(candidate(0, tokens="prompt")),
    ]
    found = pairs(every, trials, 1.2, "pca-ot")
    assert [(c.blocks, c.tokens) for c in found] == [
        ((1, 2), "all"),
        ((1, 3), "all"),
        ((1, 4), "all"),
        ((0, 1), "last"),
        ((0, 2), "last"),
        ((0, 3), "last"),
    ]
    assert pairs(every, [], 1.2, "pca-ot") == ()


@pytest.mark.parametrize("blocks", [(1, 2), (0, 1, 2, 3, 4)])
def test_pairs_do_not_change_once_larger_candidates_were_tried(blocks: tuple[int, ...]) -> None:
    single = [trial(candidate(1), 0.5, 1.0)]
    later = [*single, trial(candidate(blocks), 0.9, 1.0)]
    assert pairs(scores(ROWS), later, 1.2, "pca-ot") == pairs(scores(ROWS), single, 1.2, "pca-ot")


# Keys -------------------------------------------------------------------------------------------------------------


def test_keys_tell_candidates_apart() -> None:
    every = [
        candidate(3),
        candidate(3, rank=2),
        candidate(3, tokens="last"),
        candidate(3, method="rfa", rank=None),
        candidate(3, method="rfa", rank=None, sites=True),
        candidate((3, 5)),
        candidate((3, 4, 5)),
        candidate((3, 4, 5, 6)),
    ]
    assert len({c.key for c in every}) == len(every)
    assert candidate((3, 5)).key == "pca-ot-k1-b3+5-all"
    assert candidate(3, method="rfa", rank=None, tokens="last").key == "rfa-b3-last"
    assert all(set(c.key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-+") for c in every)


# On a model -------------------------------------------------------------------------------------------------------


HARMFUL, HARMLESS = tiny.PROMPTS[:5], tiny.PROMPTS[3:]
TOKENS = (7, 40, 200)


@pytest.fixture(scope="module")
def run(llama: ChatModel) -> Run[AuditConfig, AuditResult]:
    made = a_run(llama, sides(HARMFUL, HARMLESS), ridge=0.1, strength=0.8, ranks=(1, 2))
    text = decode(llama, generate_ids(llama, HARMFUL[:1], max_new_tokens=5))[0]
    made.__dict__["judge"] = SubstringJudge("made-up", (text[:1],), ignore_case=False, source="this test")
    return made


@pytest.fixture(scope="module")
def original(run: Run[AuditConfig, AuditResult]) -> Original:
    return ask_original(run, 5)


def test_a_candidate_is_built_on_the_fit_split(llama: ChatModel, run: Run[AuditConfig, AuditResult]) -> None:
    fit = run.fit
    single = build(llama, candidate(1, rank=2, tokens="last"), fit)
    assert (single.blocks, single.tokens, single.strength) == ((1,), "last", 0.8)
    h = torch.randn(4, 32, generator=torch.Generator().manual_seed(0)).double()
    expected = fit_of("pca-ot", 2, fit.options)(fit.source[1], fit.target[1])
    torch.testing.assert_close(single.maps[1](h), expected(h))
    sites = build(llama, candidate(1, method="rfa", rank=None, sites=True), fit)
    assert len(sites.maps) == 9
    rfa = fit_of("rfa", None, fit.options)(fit.source[1], fit.target[1])
    torch.testing.assert_close(sites.maps[Site(2, "mlp")](h), rfa(h))


def test_an_attempt_measures_the_candidate(
    llama: ChatModel, run: Run[AuditConfig, AuditResult], original: Original
) -> None:
    hooks = count_hooks(llama)
    done = attempt(run, candidate(1), original)
    assert count_hooks(llama) == hooks
    move = build(llama, candidate(1), run.fit)
    with move.applied(llama):
        texts = decode(llama, generate_ids(llama, HARMFUL, max_new_tokens=5))
    answers = generate_ids(llama, HARMLESS, max_new_tokens=5)
    answered = sum(not run.judge.is_refusal("", text) for text in texts)
    costs = answer_costs(llama, HARMLESS, answers, move)
    untouched = answer_costs(llama, HARMLESS, answers, Intervention())
    assert done.error is None
    assert done.asr is not None
    assert (done.asr.value, done.asr.n) == (answered / 5, 5)
    assert done.perplexity_ratio == pytest.approx(costs.perplexity.value / untouched.perplexity.value)
    assert done.kl == costs.kl


def test_an_attempt_that_cannot_be_fitted_is_a_finding(
    run: Run[AuditConfig, AuditResult], original: Original, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise FitError("no direction.")

    monkeypatch.setattr(bures.jobs.run, "build", refuse)
    assert attempt(run, candidate(1), original) == Trial(candidate(1), None, None, None, error="no direction.")
