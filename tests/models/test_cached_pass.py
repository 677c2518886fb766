"""The end of a prompt over the cache of what stands before it: the scores of whole passes, from fewer positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bures.models.intervention import Intervention
from bures.models.loading import ChatModel, wrap
from bures.models.prompt_stream import PromptStream
from helpers import families, reference, tiny
from helpers.families import FAMILIES
from helpers.intervened import the_map

BEGINNINGS = ((), (40, 7))


def scores(model: ChatModel, move: Intervention, begin: tuple[int, ...], *, cached: bool, advance: int = -1) -> Any:
    stream = PromptStream(model, tiny.PROMPTS, begin=begin, token_budget=200)
    model.entries.over_cache = None if cached else False
    if advance >= 0:
        stream.advance(advance)
    first = stream.first_token(move).log_probs  # tried against a whole pass
    return first, stream.first_token(move).log_probs


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_the_end_of_a_prompt_alone_scores_what_the_whole_does(any_model: ChatModel, begin: tuple[int, ...]) -> None:
    for block in range(len(any_model.blocks)):
        move = Intervention({block: the_map(any_model)}, "last", 1.5)
        whole, _ = scores(any_model, move, begin, cached=False)
        for advance in (-1, block):
            tried, found = scores(any_model, move, begin, cached=True, advance=advance)
            assert any_model.entries.over_cache is True
            torch.testing.assert_close(tried, whole, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)
    any_model.entries.over_cache = None


def test_only_the_last_position_is_computed(llama: ChatModel) -> None:
    stream = PromptStream(llama, tiny.PROMPTS, token_budget=10_000)
    move = Intervention({1: the_map(llama)}, "last")
    stream.advance(1)
    stream.first_token(move)
    seen: list[int] = []

    def look(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        seen.append(hidden.shape[0] * hidden.shape[1])

    handles: list[Any] = [
        block.self_attn.register_forward_pre_hook(look, with_kwargs=True)  # pyright: ignore[reportAttributeAccessIssue]
        for block in llama.blocks
    ]
    stream.first_token(move)
    for handle in handles:
        handle.remove()
    assert sum(seen) == (len(llama.blocks) - 2) * len(tiny.PROMPTS)
    llama.entries.over_cache = None


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_the_scores_of_whole_passes(name: str) -> None:
    model = wrap(families.network(name), tiny.tokenizer(), name)
    move = Intervention({len(model.blocks) - 2: reference.low_rank(model.d_model, seed=3)}, "last")
    whole, _ = scores(model, move, (), cached=False)
    _, found = scores(model, move, (), cached=True)
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)


def test_other_scopes_are_whole_passes(llama: ChatModel) -> None:
    llama.entries.over_cache = None
    for scope in ("all", "prompt"):
        PromptStream(llama, tiny.PROMPTS).first_token(Intervention({1: the_map(llama)}, scope))
    assert llama.entries.over_cache is None
