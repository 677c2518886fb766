"""What all prompts begin with is computed once, and changes no answer."""

from __future__ import annotations

from typing import Any

import pytest

from bures.models.architecture import text_config
from bures.models.generation import generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel, wrap
from bures.models.shared_prefix import LEAST, common
from bures.results.records import Scope
from helpers import families, reference, tiny
from helpers.families import FAMILIES
from helpers.intervened import the_map

SYSTEM = "You answer in one short sentence, whatever you are asked."
PROMPTS = [*tiny.PROMPTS, *(f"Tell me about {thing}." for thing in ("rain", "the old bridge", "x"))]


def test_the_common_beginning_leaves_every_prompt_a_token() -> None:
    assert common([[1, 2, 3], [1, 2, 4]]) == 2
    assert common([[1, 2], [1, 2, 4]]) == 1
    assert common([[1, 2], [2, 2]]) == 0
    assert common([[5]]) == 0


def answers(model: ChatModel, move: Intervention, *, shared: bool) -> list[list[int]]:
    model.entries.over_prefix = None if shared else False
    with move.applied(model):
        return generate_ids(model, PROMPTS, max_new_tokens=8, system=SYSTEM, token_budget=300)


@pytest.mark.parametrize("scope", [None, "all", "prompt", "last", "generated"])
def test_answers_are_those_of_whole_prompts(any_model: ChatModel, scope: Scope | None) -> None:
    assert len(PROMPTS) >= LEAST
    move = Intervention() if scope is None else Intervention({1: the_map(any_model)}, scope)
    assert answers(any_model, move, shared=True) == answers(any_model, move, shared=False)
    model = any_model
    model.entries.over_prefix = None
    answers(model, move, shared=True)
    window = getattr(text_config(model.hf), "sliding_window", None) or 10**6
    fits = max(map(len, model.encode(PROMPTS, system=SYSTEM))) + 8 <= window
    assert model.entries.over_prefix is (True if fits else None)  # pads would push it out of the window
    model.entries.over_prefix = None


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_answers_as_with_whole_prompts(name: str) -> None:
    model = wrap(families.network(name), tiny.tokenizer(), name)
    move = Intervention({len(model.blocks) - 2: reference.low_rank(model.d_model, seed=3)}, "last")
    assert answers(model, move, shared=True) == answers(model, move, shared=False)


def test_the_beginning_is_computed_once(llama: ChatModel) -> None:
    seen: list[int] = []

    def look(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        seen.append(hidden.shape[0] * hidden.shape[1])

    attention: Any = llama.blocks[0].self_attn
    handle = attention.register_forward_pre_hook(look, with_kwargs=True)
    counts: dict[bool, int] = {}
    llama.entries.over_prefix = None
    generate_ids(llama, PROMPTS, max_new_tokens=1, system=SYSTEM, token_budget=10**6)  # tried once
    for shared in (True, False):
        seen.clear()
        llama.entries.over_prefix = shared
        generate_ids(llama, PROMPTS, max_new_tokens=1, system=SYSTEM, token_budget=10**6)
        counts[shared] = sum(seen)
    handle.remove()
    n = common(llama.encode(PROMPTS, system=SYSTEM))
    assert counts[False] - counts[True] == n * (len(PROMPTS) - 1)
    llama.entries.over_prefix = None
