"""Where the instruction ends in a templated prompt, and what is read there."""

from __future__ import annotations

import pytest
import torch

from bures.data.conversations import Conversation, Turn
from bures.errors import ModelError
from bures.models.activations import collect, read
from bures.models.loading import ChatModel, wrap
from bures.models.positions import instruction_ends, places_of
from helpers import scripted, tiny
from helpers.scripted import Script

SHORT = ["a", "<|end|", "Name three rivers.", "Ends with a blank. ", "ends with the word assistant"]


def spelled(model: ChatModel, prompts: list[str], ends: list[int], system: str | None = None) -> list[str]:
    """What stands up to and with the token in each prompt."""
    rows = model.encode(prompts, system=system)
    return [model.chat.spelled(row[: len(row) + end + 1]) for row, end in zip(rows, ends, strict=True)]


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_instruction_ends_with_the_last_character_of_what_the_user_says(
    llama: ChatModel, system: str | None
) -> None:
    ends = instruction_ends(llama, SHORT, system=system)
    for prompt, text in zip(SHORT, spelled(llama, SHORT, ends, system), strict=True):
        assert text.endswith(prompt.rstrip())
    assert ends[0] == -3  # behind it stand the end of the turn and the assistant's mark
    assert ends[3] == -4  # and a blank


@pytest.mark.parametrize("script", [Script(), Script(opens="<think>"), Script(parts=True), Script(before="word9")])
def test_every_template_is_seen_through(script: Script) -> None:
    model = scripted.model(script)
    ends = instruction_ends(model, ["word1 word2", "zarn3"])
    rows = model.encode(["word1 word2", "zarn3"])
    assert [model.chat.spelled([row[end]]).strip() for row, end in zip(rows, ends, strict=True)] == ["word2", "zarn3"]


def test_of_a_conversation_it_is_the_last_turn_of_the_user(llama: ChatModel) -> None:
    turns = (Turn("user", "First question"), Turn("assistant", "Yes"), Turn("user", "Second one"))
    (end,) = instruction_ends(llama, [Conversation(turns)])
    (row,) = llama.encode([Conversation(turns)])
    assert llama.chat.spelled(row[: len(row) + end + 1]).endswith("Second one")


def test_a_template_that_changes_what_the_user_says_is_refused() -> None:
    tokenizer = scripted.tokenizer(Script())
    tokenizer.chat_template = Script().template.replace("m['content']", "m['content'] | upper")
    model = wrap(scripted.network(Script()), tokenizer, "shouting")
    with pytest.raises(ModelError, match="changes what the user says"):
        instruction_ends(model, ["word1"])


def test_both_positions_are_read_in_one_pass_as_one_at_a_time(llama: ChatModel) -> None:
    prompts = list(tiny.PROMPTS)
    places = places_of(llama, prompts, ["last", "instruction"])
    rows = read(llama, llama.encode(prompts), [0, 2], places, token_budget=150)
    alone = collect(llama, prompts, blocks=[0, 2])
    for block, found in rows.items():
        assert found.shape == (len(prompts), 2, llama.d_model)
        torch.testing.assert_close(found[:, 0], alone[block])
        both = zip(prompts, places, strict=True)
        hidden = [collect(llama, [prompt], blocks=[block], position=at[1])[block][0] for prompt, at in both]
        torch.testing.assert_close(found[:, 1], torch.stack(hidden), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(found[:, 0], found[:, 1])
