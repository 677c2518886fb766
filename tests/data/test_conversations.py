"""Prompts are texts or conversations, alike in Python and in files; what is neither is refused in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bures.data.conversations import Conversation, Turn, as_prompt, asked, messages_of, plain, prompts_of
from bures.data.prompts import PromptSet, load_prompts, prompt_hash, require_disjoint
from bures.errors import PromptError

SAID = "Describe the purple teapot"
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Name a river."},
    {"role": "assistant", "content": "The Elbe."},
    {"role": "user", "content": "Another one."},
]
TURNS = Conversation(tuple(Turn(m["role"], m["content"]) for m in CHAT))


def of(*prompts: Any) -> PromptSet:
    return PromptSet("mine", "a test", None, tuple(prompts_of(prompts)))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(PromptError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert "teapot" not in message
    return message


def test_a_conversation_is_taken_as_it_is_and_one_turn_is_a_text() -> None:
    assert as_prompt(CHAT, "p") == as_prompt(TURNS, "p") == TURNS
    assert as_prompt([{"role": "user", "content": "Hi"}], "p") == "Hi"
    assert as_prompt(np.array(CHAT, dtype=object), "p") == TURNS
    assert as_prompt([{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"text": "you"}]}], "p") == "Hi\nyou"
    assert as_prompt([{**m, "name": "x", "tool_calls": None} for m in CHAT], "p") == TURNS
    assert (asked(TURNS), asked("Hi")) == ("Another one.", "Hi")
    assert (messages_of(TURNS), messages_of("Hi")) == (CHAT, [{"role": "user", "content": "Hi"}])
    assert as_prompt(json.loads(json.dumps(plain(TURNS))), "p") == TURNS


def test_the_hash_is_of_the_canonical_form() -> None:
    shouted = [{**m, "content": f"  {m['content'].upper()} "} for m in CHAT]
    assert prompt_hash(TURNS) == prompt_hash(as_prompt(shouted, "p"))
    other = [{**CHAT[0], "role": "developer"}, *CHAT[1:]]
    moved = [{"role": "user", "content": "Name a"}, {"role": "assistant", "content": "river. The Elbe."}, CHAT[-1]]
    assert len({prompt_hash(as_prompt(p, "p")) for p in (CHAT, CHAT[1:], other, moved, "Another one.")}) == 5
    assert of(CHAT, shouted, "Hi", [{"role": "user", "content": "hi"}]).n_duplicates == 2


def test_sets_of_conversations_are_counted_split_and_proved_disjoint() -> None:
    found = of(CHAT, "Hi", CHAT[1:])
    assert found.prompts == (TURNS, "Hi", Conversation(TURNS.turns[1:]))
    assert found.texts == ("Another one.", "Hi", "Another one.")
    assert found.sha256 != of(CHAT, "Hi", CHAT[3:]).sha256
    require_disjoint(one=found, two=of("Another one."))
    assert "share 1 of" in refused(lambda: require_disjoint(one=found, two=of("x", CHAT)))
    assert found[1:].prompts == found.prompts[1:]
    assert "Elbe" not in repr(found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "is missing: expected a string or a conversation"),
        (float("nan"), "is missing"),
        (3, "is a int"),
        (b"bytes", "is a bytes"),
        ("  \n", "is blank"),
        ([], "is an empty conversation"),
        ([{"role": "user", "content": " "}], "is blank"),
        (CHAT[:3], "ends with a turn of the assistant"),
        ([{"role": "user"}], "turn 1 of here has no content"),
        ([{"from": "human", "value": SAID}], "turn 1 of here has no role"),
        ([{"role": "purple teapot", "content": SAID}], "has the role str: expected one of system"),
        ([{"role": "tool", "content": SAID}], "has the role tool"),
        ([SAID, {"role": "user", "content": SAID}], "turn 1 of here is no message but a str"),
        ([{"role": "user", "content": None}], "no text but a NoneType"),
        ([{"role": "user", "content": [{"type": "image", "url": "teapot"}]}], "has a part that is no text"),
        ([*CHAT[1:], CHAT[0], CHAT[1]], "turn 4 of here is of the system"),
        ([{"role": "user", "content": SAID + "\ud800"}], "lone surrogate"),
    ],
)
def test_what_is_no_prompt_is_refused_in_its_place(value: object, expected: str) -> None:
    assert expected in refused(lambda: as_prompt(value, "here"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (SAID, "are one string (put it into a list)"),
        (None, "are None"),
        (3, "are a int"),
        ({"a": SAID}, "are a dict, which has no order"),
        ({SAID}, "are a set"),
        (CHAT, "are the turns of one conversation; put the conversation into a list"),
        ([SAID, None], "prompt 2 is missing"),
        ([SAID, CHAT[:3]], "prompt 2 ends with a turn of the assistant"),
    ],
)
def test_what_is_no_list_of_prompts_is_refused(value: object, expected: str) -> None:
    assert expected in refused(lambda: prompts_of(value))


def test_whatever_has_prompts_in_order_is_taken() -> None:
    for prompts in (("a", "b"), iter(["a", "b"]), pd.Series(["a", "b"]), np.array(["a", "b"]), of("a", "b")):
        assert prompts_of(prompts) == ["a", "b"]


def test_files_hold_conversations(tmp_path: Path) -> None:
    rows = [{"messages": CHAT, "category": "rivers"}, {"messages": [{"role": "user", "content": "Hi"}]}]
    lines = tmp_path / "a.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps(row["messages"]) + "\n" for row in rows))
    listed = tmp_path / "a.json"
    listed.write_text(json.dumps([{"prompt": row["messages"]} for row in rows]))
    table = tmp_path / "a.parquet"
    pd.DataFrame({"messages": [row["messages"] for row in rows]}).to_parquet(table)
    spelled = tmp_path / "a.csv"
    pd.DataFrame({"Messages": [json.dumps(CHAT), "Hi"]}).to_csv(spelled, index=False)
    for path in (lines, bare, listed, table, spelled):
        assert load_prompts(path).prompts == (TURNS, "Hi"), path
    assert load_prompts(lines).categories == ("rivers", None)


def test_a_texts_column_is_taken_before_one_of_conversations(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": CHAT[:3], "prompt": "Hi"}) + "\n")
    assert load_prompts(path).prompts == ("Hi",)
    assert "line 1, column messages ends with" in refused(lambda: load_prompts(path, column="messages"))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", json.dumps({"messages": []}), "line 1 is blank in column messages"),
        (
            "a.jsonl",
            json.dumps({"messages": [{"content": SAID}]}),
            "turn 1 of {path}, line 1, column messages has no",
        ),
        (
            "a.csv",
            "messages\n\"[{'role': 'user', 'content': 'teapot'}]\"\n",
            "line 2 is not valid JSON in column",
        ),
    ],
)
def test_a_bad_conversation_in_a_file_is_named_by_its_line(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    path = tmp_path / name
    path.write_text(content + "\n")
    assert expected.format(path=path) in refused(lambda: load_prompts(path))
