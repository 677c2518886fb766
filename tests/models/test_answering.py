"""Answers that go on from passes that were computed anyway are those that are generated anew."""

from __future__ import annotations

import pytest

from bures.jobs.metrics import along_answers, answer_costs
from bures.models.along import Along
from bures.models.answering import answers_along
from bures.models.generation import generate_ids
from bures.models.intervention import Intervention, count_hooks
from bures.models.loading import ChatModel, wrap
from bures.results.records import Scope
from helpers import families, reference, tiny
from helpers.counting import counted
from helpers.families import FAMILIES
from helpers.intervened import the_map

SYSTEM = "You answer in one short sentence, whatever you are asked."
PROMPTS = [*tiny.PROMPTS, *(f"Tell me about {thing}." for thing in ("rain", "the old bridge", "x"))]
SCOPES: tuple[Scope, ...] = ("all", "prompt", "last", "generated")


def anew(model: ChatModel, move: Intervention, system: str | None, most: int = 8) -> list[list[int]]:
    with move.applied(model):
        return generate_ids(model, PROMPTS, max_new_tokens=most, system=system, token_budget=400)


def moves(model: ChatModel) -> list[Intervention]:
    """At every scope; so strong that all answers change, and so weak that most stay."""
    map_ = the_map(model)
    strong = [Intervention({block: map_}, scope) for block in (0, 2) for scope in SCOPES]
    return [*strong, *(Intervention({1: map_}, scope, 0.005) for scope in SCOPES), Intervention({0: map_, 2: map_})]


@pytest.mark.parametrize("system", [None, SYSTEM])
def test_answers_go_on_from_the_originals_pass(any_model: ChatModel, system: str | None) -> None:
    held = along_answers(any_model, PROMPTS, [()] * len(PROMPTS), system=system)
    hooks = count_hooks(any_model)
    for move in (Intervention(), *moves(any_model), Intervention()):
        found = answers_along(held, move, max_new_tokens=8, token_budget=400)
        assert found == anew(any_model, move, system)
    assert count_hooks(any_model) == hooks


@pytest.mark.parametrize("system", [None, SYSTEM])
def test_answers_differ_from_the_originals_where_the_argmax_does(any_model: ChatModel, system: str | None) -> None:
    original = anew(any_model, Intervention(), system)
    held = along_answers(any_model, PROMPTS, original, system=system)
    kept = 0
    for move in moves(any_model):
        costs = answer_costs(
            any_model, PROMPTS, original, move, system=system, token_budget=400, along=held, max_new_tokens=8
        )
        expected = anew(any_model, move, system)
        if costs.answers is not None:
            assert costs.answers == expected
        kept += sum(a == b for a, b in zip(expected, original, strict=True))
        whole = answer_costs(any_model, PROMPTS, original, move, system=system, token_budget=400)
        assert costs.kl_each == pytest.approx(whole.kl_each, rel=1e-4, abs=1e-6)
        assert whole.answers is None
    assert 0 < kept < len(PROMPTS) * len(moves(any_model))  # both kinds were tried


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_answers_as_anew(name: str) -> None:
    model = wrap(families.network(name), tiny.tokenizer(), name)
    held = along_answers(model, PROMPTS, [()] * len(PROMPTS), system=SYSTEM)
    original = anew(model, Intervention(), SYSTEM)
    costs_along = along_answers(model, PROMPTS, original, system=SYSTEM)
    map_, n = reference.low_rank(model.d_model, seed=3), len(model.blocks)
    for move in (Intervention({n - 2: map_}, "last"), Intervention({0: map_}), Intervention({n - 1: map_})):
        expected = anew(model, move, SYSTEM)
        assert answers_along(held, move, max_new_tokens=8, token_budget=400) == expected
        costs = answer_costs(model, PROMPTS, original, move, system=SYSTEM, along=costs_along, max_new_tokens=8)
        assert costs.answers in (None, expected)


def test_an_answer_that_stays_is_not_generated(llama: ChatModel) -> None:
    original = anew(llama, Intervention(), None)
    held = along_answers(llama, PROMPTS, original)
    weak = Intervention({1: the_map(llama)}, "last", 1e-6)
    answer_costs(llama, PROMPTS, original, weak, along=held)
    with counted(llama) as seen:
        costs = answer_costs(llama, PROMPTS, original, weak, along=held, max_new_tokens=8)
    assert costs.answers == original
    longest = max(map(len, original)) + 1
    assert sum(seen) == len(PROMPTS) * longest * (len(llama.blocks) - 2)


def test_a_prompt_is_computed_from_the_first_change_on(llama: ChatModel) -> None:
    held = along_answers(llama, PROMPTS, [()] * len(PROMPTS))
    behind = len(llama.blocks) - 2
    move = Intervention({1: the_map(llama)}, "last")
    answers_along(held, move, max_new_tokens=1)
    with counted(llama) as seen:
        answers_along(held, move, max_new_tokens=1)
    assert sum(seen) == behind * len(PROMPTS)


@pytest.mark.parametrize("room", [0, 3000])
def test_answers_are_the_same_where_little_can_be_kept(llama: ChatModel, room: int) -> None:
    held = Along(llama, llama.encode(PROMPTS), [()] * len(PROMPTS), streams=room, cached=room)
    for move in (Intervention(), *moves(llama)[:8]):
        assert answers_along(held, move, max_new_tokens=8, token_budget=400) == anew(llama, move, None)


def test_where_a_pass_cannot_go_on_answers_are_generated_anew(llama: ChatModel) -> None:
    held = along_answers(llama, PROMPTS, [()] * len(PROMPTS))
    held.goes_on = False
    move = moves(llama)[0]
    assert answers_along(held, move, max_new_tokens=8, token_budget=400) == anew(llama, move, None)
