"""The layer scan against whole forward passes of fitted interventions; refusal tokens from made-up answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from bures.data.conversations import Prompt
from bures.data.conversations import asked as asked_of
from bures.jobs.parting import Parting
from bures.jobs.scanner import Scanner, find_parting, scan_blocks
from bures.judges.base import Verdict
from bures.judges.phrases import ARDITI
from bures.models.activations import collect
from bures.models.fitting import FitData
from bures.models.intervention import Intervention, count_hooks
from bures.models.loading import ChatModel
from bures.models.methods import METHODS, FitOptions, fit_of
from bures.models.prompt_stream import first_token
from bures.models.reentry import Entries
from bures.results.records import Candidate, Failure, ScanScore
from helpers import tiny
from helpers.counting import in_few_batches
from helpers.made_runs import sides

HARMFUL, HARMLESS = tiny.PROMPTS[:5], tiny.PROMPTS[3:]
TOKENS = (7, 40, 200)
OPTIONS: dict[str, Any] = {"methods": list(METHODS), "ranks": [1, 2], "scopes": ["all", "last"]}


def fit_data(model: ChatModel) -> FitData:
    return FitData(HARMFUL, collect(model, HARMFUL), collect(model, HARMLESS), FitOptions(ridge=0.1), strength=0.8)


def scanner(model: ChatModel, **options: Any) -> Scanner:
    return Scanner(
        model, fit_data(model), sides(HARMFUL, HARMLESS), Parting(tuple(options.pop("tokens", TOKENS))), **options
    )


def all_of(found: Iterable[ScanScore | Failure]) -> list[ScanScore]:
    """The scores, where nothing failed."""
    scores = list(found)
    assert not any(isinstance(each, Failure) for each in scores)
    return [each for each in scores if isinstance(each, ScanScore)]


def jumps(candidate: Candidate) -> bool:
    """Whether rounding decides a score.

    The map ends at the outermost fitted activations, which here are scored too: whether they are moved is decided by
    the last bit, which is another one where the last token alone is computed again.
    """
    return candidate.method == "act-interval" and candidate.tokens == "last"


def mean_odds(model: ChatModel, prompts: Sequence[str], move: Intervention) -> float:
    return float(first_token(model, prompts, move).log_odds(TOKENS).mean())


def test_a_scan_is_whole_passes_of_fitted_interventions(any_model: ChatModel) -> None:
    hooks, fit = count_hooks(any_model), fit_data(any_model)
    found = all_of(scan_blocks(scanner(any_model, induce=True), blocks=[2, 0], **OPTIONS, known={}))
    assert count_hooks(any_model) == hooks
    assert len(found) == len({s.candidate.key for s in found}) == 2 * (5 + 2) * 2
    original = first_token(any_model, HARMLESS, Intervention())
    for score in found:
        c = score.candidate
        source, target = fit.source[c.blocks[0]], fit.target[c.blocks[0]]
        move = Intervention({c.blocks[0]: fit_of(c.method, c.rank, fit.options)(source, target)}, c.tokens, 0.8)
        if jumps(c):
            continue
        assert score.refusal_log_odds == pytest.approx(mean_odds(any_model, HARMFUL, move), abs=1e-4)
        assert score.first_token_kl == pytest.approx(original.kl_to(first_token(any_model, HARMLESS, move)), abs=1e-5)
        way_back = "rfa-mean" if c.method == "rfa" else c.method
        back = Intervention({c.blocks[0]: fit_of(way_back, c.rank, fit.options)(target, source)}, c.tokens, 0.8)
        assert sum(score.induced) / 5 == pytest.approx(mean_odds(any_model, HARMLESS, back), abs=1e-4)
        assert len(score.each) == len(HARMFUL)
        assert sum(score.each) / 5 == pytest.approx(score.refusal_log_odds)
    assert len({round(s.refusal_log_odds, 7) for s in found}) > 6


def test_re_entry_gives_the_scores_of_whole_passes(any_model: ChatModel) -> None:
    plain = replace(any_model, entries=Entries.nowhere(len(any_model.blocks)))
    entered, whole = (
        all_of(scan_blocks(scanner(model, induce=True), blocks=range(3), **OPTIONS, known={}))
        for model in (any_model, plain)
    )
    assert plain.entries == Entries.nowhere(len(any_model.blocks)), "whole passes they were"
    for one, other in zip(entered, whole, strict=True):
        assert one.candidate == other.candidate
        if jumps(one.candidate):
            continue
        assert one.each == pytest.approx(other.each, abs=1e-4)
        assert one.induced == pytest.approx(other.induced, abs=1e-4)
        assert one.first_token_kl == pytest.approx(other.first_token_kl, abs=1e-6)


def test_re_entry_computes_only_the_blocks_behind(llama: ChatModel) -> None:
    ran: list[int] = []
    handles = [
        block.get_submodule("self_attn").register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, block in enumerate(llama.blocks)
    ]
    try:
        stage = scanner(in_few_batches(llama))
        first = list(stage.block(1, methods=["rfa"], ranks=[], scopes=["all"]))  # walks there, and tries the entry
        ran.clear()
        again = list(stage.block(1, methods=["rfa"], ranks=[], scopes=["all"]))
    finally:
        for handle in handles:
            handle.remove()
    assert again == first
    assert ran == [2, 2]  # both scores run block 2 alone


def test_known_scores_are_not_computed_again(llama: ChatModel) -> None:
    found = all_of(scan_blocks(scanner(llama), blocks=[0, 2], **OPTIONS, known={}))
    known = {s.candidate.key: ScanScore(s.candidate, -99.0, 99.0) for s in found if s.candidate.blocks == (0,)}
    again = all_of(scan_blocks(scanner(llama), blocks=[0, 2], **OPTIONS, known=known))
    assert again[: len(known)] == list(known.values())  # taken as they are
    assert again[len(known) :] == found[len(known) :]


def test_a_scan_without_refusal_tokens_ranks_by_cost_alone(llama: ChatModel) -> None:
    quiet = scanner(llama, tokens=(), induce=True)
    found = all_of(scan_blocks(quiet, blocks=[1], methods=["rfa"], ranks=[], scopes=["all"], known={}))
    assert [(s.refusal_log_odds, s.each, s.induced) for s in found] == [(0.0, (), ())]
    assert found[0].first_token_kl > 0


# Refusal tokens ---------------------------------------------------------------------------------------------------


def spell(text: str) -> list[int]:
    return [int(i) for i in tiny.tokenizer()(text, add_special_tokens=False)["input_ids"]]


def first(text: str) -> int:
    return spell(text)[0]


@pytest.mark.parametrize(
    ("harmful", "harmless", "expected"),
    [
        (["I cannot", "As an AI", "Sure"], ["Here", "Yes"], {"I", "A"}),
        (["I cannot", "I can't", "As an AI"], ["I think", "I know", "I see", "Here"], {"A"}),  # I: 2/3 < 3/4
        (["I cannot", "I can't", "I cannot"], ["I think", "Here"], {"I"}),  # I: 1 > 1/2
        (["I cannot", "I can't"], ["I think", "I know"], {"c"}),  # all begin with "I "
        (["Sure", "Yes"], ["Here", "Yes"], set()),
        (["I cannot"], ["I cannot", "As an AI"], {"I", "A"}),  # over-refusals count as refusals
        (["I cannot", "It is so"], ["Here"], {"I"}),  # I: 1 > 1/2, answered harmful prompts count as answers
        (["I cannot", "I like it"], [], {"c"}),  # likewise
    ],
)
def test_refusal_tokens_are_commoner_in_refusals(
    llama: ChatModel, harmful: list[str], harmless: list[str], expected: set[str]
) -> None:
    asked: list[int] = []

    def answer(prompts: Sequence[Prompt], max_new_tokens: int) -> list[list[int]]:
        asked.append(max_new_tokens)
        return [spell(asked_of(text)) for text in prompts]  # the answer repeats the prompt

    found = find_parting(llama, harmful, harmless, ARDITI, answer, max_new_tokens=5)
    assert found.tokens == tuple(sorted(first(text) for text in expected))
    assert asked == [5] * 2


class Graded:
    """Says what the answer's first word is called, and of all else that it answers."""

    name = "graded"

    def __init__(self, asks_for_harm: bool) -> None:
        self.asks_for_harm = asks_for_harm

    def is_refusal(self, prompt: str, answer: str) -> bool:
        raise AssertionError("a grader is asked for verdicts")

    def verdicts(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        words: dict[str, Verdict] = {"No": "refusal", "Bread": "evasive"}
        return [words.get(answer.split()[0], "answer") for answer in answers]


@pytest.mark.parametrize(("asks_for_harm", "expected"), [(False, {"N"}), (True, set())])
def test_evasive_answers_and_harmless_ones_read_for_harm_are_no_refusals(
    llama: ChatModel, asks_for_harm: bool, expected: set[str]
) -> None:
    def answer(prompts: Sequence[Prompt], _: int) -> list[list[int]]:
        return [spell(asked_of(text)) for text in prompts]

    found = find_parting(llama, ["Bread is it", "Here"], ["No bread", "Here"], Graded(asks_for_harm), answer)
    assert found.tokens == tuple(sorted(first(text) for text in expected))
