"""Costs along sequences that do not change: the same figures as whole passes, from fewer of them."""

from __future__ import annotations

import pytest
import torch

from bures.errors import ConfigError
from bures.jobs.metrics import along_answers, along_text, answer_costs, corpus_perplexity
from bures.models.along import Along
from bures.models.generation import generate_ids
from bures.models.intervention import Intervention, Site, count_hooks
from bures.models.loading import ChatModel, wrap
from bures.results.records import Scope
from helpers import families, reference, tiny
from helpers.counting import counted
from helpers.families import FAMILIES
from helpers.intervened import the_map

TEXT = "The river runs past the old mill, and in the evening the children count the boats that come home. " * 4


def moves(model: ChatModel) -> list[Intervention]:
    """Maps at every block, in every scope, and at several sites."""
    scopes: tuple[Scope, ...] = ("all", "prompt", "last", "generated")
    found = [Intervention({block: the_map(model)}, scope) for block in range(len(model.blocks)) for scope in scopes]
    return [*found, Intervention({0: the_map(model), 2: the_map(model)}), Intervention({1: the_map(model)}, "all", 0.5)]


def test_costs_are_those_of_whole_passes(any_model: ChatModel) -> None:
    answers = generate_ids(any_model, tiny.PROMPTS, max_new_tokens=7)
    held = along_answers(any_model, tiny.PROMPTS, answers)
    hooks = count_hooks(any_model)
    for move in (Intervention(), *moves(any_model), Intervention()):
        whole = answer_costs(any_model, tiny.PROMPTS, answers, move, token_budget=200)
        found = answer_costs(any_model, tiny.PROMPTS, answers, move, token_budget=200, along=held)
        assert found.nll_each == pytest.approx(whole.nll_each, rel=1e-5, abs=1e-6)
        assert found.kl_each == pytest.approx(whole.kl_each, rel=1e-4, abs=1e-6)
    assert count_hooks(any_model) == hooks


def test_perplexity_is_that_of_whole_passes(llama: ChatModel) -> None:
    held = along_text(llama, TEXT, max_tokens=300, window=64)
    for move in (Intervention(), *moves(llama)):
        whole = corpus_perplexity(llama, TEXT, move, max_tokens=300, window=64)
        found = corpus_perplexity(llama, TEXT, move, max_tokens=300, window=64, along=held)
        assert found.value == pytest.approx(whole.value, rel=1e-5)


@pytest.mark.parametrize("name", ["norms behind", "norms on both sides"])
def test_sites_inside_a_block_are_entered_before_it(name: str) -> None:
    model = wrap(families.network(name), tiny.tokenizer(), name)
    answers = generate_ids(model, tiny.PROMPTS, max_new_tokens=4)
    held = along_answers(model, tiny.PROMPTS, answers)
    map_ = reference.low_rank(model.d_model, seed=3)
    for where in ("input", "attention", "mlp"):
        move = Intervention({Site(1, where): map_})
        whole = answer_costs(model, tiny.PROMPTS, answers, move)
        found = answer_costs(model, tiny.PROMPTS, answers, move, along=held)
        assert found.kl_each == pytest.approx(whole.kl_each, rel=1e-4, abs=1e-6)


def test_only_what_changed_is_computed(llama: ChatModel) -> None:
    answers = generate_ids(llama, tiny.PROMPTS, max_new_tokens=5)
    held = along_answers(llama, tiny.PROMPTS, answers)
    answer_costs(llama, tiny.PROMPTS, answers, Intervention(), along=held)
    last = len(llama.blocks) - 1
    with counted(llama) as seen:
        answer_costs(llama, tiny.PROMPTS, answers, Intervention(), along=held)
        assert seen == []  # the head alone
        answer_costs(llama, tiny.PROMPTS, answers, Intervention({last: the_map(llama)}), along=held)
        assert seen == []  # nothing lies behind the last block
        answer_costs(llama, tiny.PROMPTS, answers, Intervention({last - 1: the_map(llama)}), along=held)
        behind = sum(seen)
    with counted(llama) as seen:
        answer_costs(llama, tiny.PROMPTS, answers, Intervention({last - 1: the_map(llama)}))
        assert sum(seen) == 2 * len(llama.blocks) * behind


def test_streams_are_kept_as_far_as_there_is_room(llama: ChatModel) -> None:
    sequences = [[1, 2, 3, 4]]
    each = 4 * llama.d_model * 4
    n = len(llama.blocks)
    assert Along(llama, sequences).held_blocks == tuple(range(n - 1, -1, -1))
    assert Along(llama, sequences, streams=each).held_blocks == (n - 1,)
    assert Along(llama, sequences, streams=each - 1).held_blocks == ()
    assert len(Along(llama, sequences, streams=2 * each).held_blocks) <= 2


def test_what_is_held_of_others_is_refused(llama: ChatModel) -> None:
    answers = generate_ids(llama, tiny.PROMPTS, max_new_tokens=5)
    held = along_answers(llama, tiny.PROMPTS, answers)
    with pytest.raises(ConfigError, match="of others"):
        answer_costs(llama, tiny.PROMPTS[1:], answers[1:], Intervention(), along=held)
    with pytest.raises(ConfigError, match="of others"):
        corpus_perplexity(llama, TEXT, Intervention(), max_tokens=300, window=64, along=held)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_entered_where_that_is_right_and_nowhere_else(name: str) -> None:
    model = wrap(families.network(name), tiny.tokenizer(), name)
    answers = [[5, 6, 7] for _ in tiny.PROMPTS]
    held = along_answers(model, tiny.PROMPTS, answers)
    move = Intervention({len(model.blocks) - 1: reference.low_rank(model.d_model, seed=3)})
    for each in (Intervention(), move):
        whole = answer_costs(model, tiny.PROMPTS, answers, each)
        found = answer_costs(model, tiny.PROMPTS, answers, each, along=held)
        assert found.nll_each == pytest.approx(whole.nll_each, rel=1e-4, abs=1e-5)
        assert found.kl_each == pytest.approx(whole.kl_each, rel=1e-3, abs=1e-5)
    assert torch.is_inference_mode_enabled() is False
