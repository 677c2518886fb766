"""Prompts arrive and answers end, on a model whose every answer is known."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bures.errors import ModelError, PromptError
from bures.models.activations import collect
from bures.models.chat import dated, tokenised
from bures.models.generation import decode, finished, generate, generate_ids, read
from bures.models.loading import ChatModel, load_model, wrap
from bures.models.turn_ends import added_tokens
from helpers import interpreter, scripted, tiny
from helpers.scripted import ANSWERED, BAD, GOOD, REFUSED, THOUGHT, Script

THINKS = ("<think>", *THOUGHT, "</think>")
CHAT = [
    {"role": "user", "content": GOOD},
    {"role": "assistant", "content": "word5"},
    {"role": "user", "content": BAD},
]


def answers(script: Script, **asked: Any) -> list[str]:
    """To one prompt that the model refuses, and one that it answers."""
    model = scripted.model(script)
    return generate(model.asked(**asked) if asked else model, [BAD, GOOD], max_new_tokens=12)


def words(model: ChatModel, ids: list[int]) -> list[str]:
    return [str(model.tokenizer.convert_ids_to_tokens(each)) for each in ids]


def ids_of(model: ChatModel, *tokens: str) -> list[int]:
    found = model.tokenizer.convert_tokens_to_ids(list(tokens))
    assert isinstance(found, list)
    return found


# Prompts ----------------------------------------------------------------------------------------------------------


def test_the_model_is_what_its_table_says() -> None:
    model = scripted.model()
    bad, good = scripted.prompts(12, bad=True), scripted.prompts(12, bad=False)
    assert set(generate(model, bad)) == {REFUSED}
    assert set(generate(model, good)) == {ANSWERED}


def test_a_conversation_is_rendered_turn_by_turn() -> None:
    model = scripted.model()
    (ids,) = model.encode([CHAT])
    said = f"<|bos|> <|user|> {GOOD} <|turn|> <|assistant|> word5 <|turn|> <|user|> {BAD} <|turn|> <|assistant|>"
    assert words(model, ids) == said.split()
    assert model.encode([CHAT], system="word7")[0][1:4] == model.tokenizer.convert_tokens_to_ids(
        ["<|system|>", "word7", "<|turn|>"]
    )
    assert model.encode([CHAT[:1], GOOD])[0] == model.encode([GOOD])[0]
    assert generate(model, [CHAT, CHAT[:1]]) == [REFUSED, ANSWERED]
    rows = collect(model, [CHAT, GOOD], blocks=[1])[1]
    torch.testing.assert_close(rows[1], collect(model, [CHAT[:1]], blocks=[1])[1][0])


def test_a_system_turn_beside_a_system_prompt_is_refused() -> None:
    own = [{"role": "system", "content": "word1"}, {"role": "user", "content": "word2"}]
    with pytest.raises(PromptError, match="prompt 2 has a system turn of its own: leave the system prompt out"):
        scripted.model().encode([GOOD, own], system="word3")


def test_wrong_lists_of_prompts_are_one_line() -> None:
    """In an interpreter of its own: here beartype would complain first."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from bures.data.prompts import PromptSet, load_prompts
from bures.errors import BuresError
from bures.models.activations import collect
from bures.models.generation import generate
from bures.models.prompt_stream import PromptStream
from helpers import scripted
model = scripted.model()
for wrong in ("good1 good2", None, 3, [None], [3], [[]], {CHAT!r}, {{"a": "b"}}):
    for call in (generate, collect, PromptStream, lambda _, p: PromptSet("mine", "here", None, p)):
        try:
            call(model, wrong)
        except BuresError as error:
            assert "expected a" in str(error) or "conversation" in str(error), error
        else:
            raise SystemExit(f"{{wrong!r}} was taken by {{call}}")
for wrong in (None, 3, ["a", "b"]):
    try:
        load_prompts(wrong)
    except BuresError as error:
        assert "the source of the prompts is" in str(error)
    else:
        raise SystemExit(f"{{wrong!r}} was taken")
mine = PromptSet("mine", "here", None, ({CHAT!r}, {GOOD!r}))
assert generate(model, mine, max_new_tokens=2) == ["Sorry, I", "Gladly: first"]
print("done")
"""
    assert interpreter.run(code).split()[-1] == "done"


def test_a_template_that_wants_parts_is_given_parts() -> None:
    model = scripted.model(Script(parts=True))
    assert model.chat.parts
    assert model.describe()["template"]["parts"] is True
    assert model.encode([BAD, CHAT]) == scripted.model().encode([BAD, CHAT])
    assert answers(Script(parts=True)) == [REFUSED, ANSWERED]
    assert not scripted.model().chat.parts


def test_a_template_that_drops_what_is_said_is_refused() -> None:
    tokenizer: Any = scripted.tokenizer(Script())
    tokenizer.chat_template = "{{ bos_token }} <|user|> {{ messages | length }} <|assistant|>"
    with pytest.raises(ModelError, match="chat template of made leaves out what the user says"):
        wrap(scripted.network(Script()), tokenizer, "made")


def test_prompts_that_differ_and_become_the_same_tokens_are_refused() -> None:
    model = scripted.model()
    assert model.encode(["unheard", "unheard", " UNHEARD "])  # the same by their hash
    with pytest.raises(ModelError, match="the tokenizer of scripted makes the same 5 tokens of prompts 2 and 3"):
        model.encode([GOOD, "unheard", "unseen"])
    cut = replace(model.chat, template=model.chat.template.replace("m['content']", "m['content'][:5]"))
    with pytest.raises(ModelError, match=r"the chat template of scripted makes the same .* of prompts 1 and 2"):
        replace(model, chat=cut).encode([GOOD, BAD])


# What was tokenised -----------------------------------------------------------------------------------------------


def test_the_day_is_fixed_and_recorded() -> None:
    model = scripted.model(Script(dated=True))
    first, second = model.asked(date="2026-03-07"), model.asked(date="2026-03-08")
    for asked, day in ((first, "07"), (second, "08")):
        assert words(asked, asked.encode([GOOD])[0])[2] == day
        assert asked.describe()["template"]["date"] == f"2026-03-{day}"
        assert generate(asked, [BAD, GOOD], max_new_tokens=12) == [REFUSED, ANSWERED]
    assert first.chat.sha256 == second.chat.sha256 == model.chat.sha256
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", model.chat.date or "")
    assert scripted.model().chat.date is None
    assert scripted.model().asked(date="2026-03-07").chat.date is None


def test_a_days_format_is_spelled_out_in_the_template() -> None:
    template = (
        """{% if strftime_now is defined %}{{ strftime_now("%d %b '%y") }}{{ strftime_now( '%Y "x"' ) }}{% endif %}"""
    )
    assert dated(template, "2026-03-07") == (
        """{% if strftime_now is defined %}{{ "07 Mar '26" }}{{ "2026 \\"x\\"" }}{% endif %}"""
    )
    assert dated(template, None) == template


def test_an_edited_template_is_another_one(tmp_path: Path) -> None:
    folder = scripted.folder(tmp_path)
    first = load_model(folder, device="cpu")
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("<|{{ m['role'] }}|>", "<|{{ m['role'] }}|> word9"))
    second = load_model(folder, device="cpu")
    assert first.fingerprint() == second.fingerprint()
    assert first.describe()["template"]["sha256"] != second.describe()["template"]["sha256"]
    one, two = (tokenised(model.encode([BAD, GOOD]), model.window) for model in (first, second))
    assert one.sha256 != two.sha256
    same = load_model(scripted.folder(tmp_path / "same"), device="cpu")
    assert one.sha256 == tokenised(same.encode([BAD, GOOD]), None).sha256


def test_the_digest_is_of_every_token_in_order() -> None:
    rows = [[1, 2], [3]]
    assert tokenised(rows, None).sha256 == tokenised([[1, 2], [3]], 5).sha256
    digests = {tokenised(each, None).sha256 for each in (rows, [[3], [1, 2]], [[1], [2, 3]], [[12], [3]], [[1, 2, 3]])}
    assert len(digests) == 5
    with pytest.raises(PromptError, match="no prompts"):
        tokenised([], None)


def test_prompts_beyond_the_window_are_counted() -> None:
    model = scripted.model()
    assert model.window == 256
    rows = model.encode([GOOD, " ".join([*scripted.HARMLESS] * 6), " ".join([*scripted.HARMLESS] * 7)])
    found = tokenised(rows, model.window)
    assert (found.n, found.longest, found.beyond) == (3, 284, (2,))
    assert tokenised(rows, model.window, room=13).beyond == (1, 2)
    assert found.describe() == {"sha256": found.sha256, "longest": 284, "window": 256, "beyond_window": 1}
    assert tokenised(rows, None).beyond == ()
    tokenizer: Any = copy.deepcopy(model.tokenizer)
    tokenizer.model_max_length = 100
    assert replace(model, tokenizer=tokenizer).window == 100


# Turn ends --------------------------------------------------------------------------------------------------------

GOES_ON = (scripted.USER, "Sorry", "again")


@pytest.mark.parametrize(
    "script",
    [
        Script(eos=scripted.STOP, onward=GOES_ON),
        Script(eos=scripted.STOP, configured=False, onward=GOES_ON),
        Script(ending="<|im_end|>", eos=scripted.STOP, onward=GOES_ON),  # no token of its own: a text
        Script(ending=scripted.STOP, onward=GOES_ON),
    ],
)
def test_an_answer_ends_where_its_turn_ends(script: Script) -> None:
    model = scripted.model(script)
    row = [script.words.index(word) for word in (*script.answer, script.ending, *GOES_ON)]
    ids = generate_ids(model, [BAD, GOOD], max_new_tokens=12)
    assert [words(model, each) for each in ids] == [
        [*script.refusal, script.ending],
        [*script.answer, script.ending],
    ]
    assert decode(model, ids) == [REFUSED, ANSWERED]
    assert all(read(model, each).ended for each in ids)
    assert finished(model, row, 99) == ids[1]
    assert not read(model, ids[1][:-1]).ended


def test_an_answer_ends_where_the_next_turn_begins() -> None:
    """The model leaves out its turn's end, and writes what the template writes in front of the user's turn."""
    model = scripted.model(Script(ending="word39", onward=GOES_ON, eos=scripted.STOP))
    ids = generate_ids(model, [GOOD], max_new_tokens=12)
    assert words(model, ids[0]) == [*scripted.ANSWER, "word39", scripted.USER]
    assert decode(model, ids) == [ANSWERED]


PLAIN = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sure.\nuser: more", "Sure."),
        ("Sure.\n user: more", "Sure."),
        ("The user: a word in a line", "The user: a word in a line"),
        ("Sure.\nassistant: more", "Sure."),
        ("assistant: Sure.", "assistant: Sure."),
        ("user: x", ""),
    ],
)
def test_a_header_in_plain_text_ends_an_answer_where_it_begins_a_line(text: str, expected: str) -> None:
    tokenizer: Any = copy.deepcopy(tiny.tokenizer())
    tokenizer.chat_template = PLAIN
    model = wrap(tiny.network("llama"), tokenizer, "made")
    assert model.chat.ends.ids == ()
    row = tokenizer(text, add_special_tokens=False)["input_ids"]
    answer, _ = model.chat.until_end(row, model.eos_ids)
    assert read(model, answer).text.rstrip("\n") == expected
    assert tokenizer.decode(answer) == text[: len(tokenizer.decode(answer))]
    assert "more" not in tokenizer.decode(answer)


def test_a_tag_of_html_ends_nothing() -> None:
    tokenizer: Any = copy.deepcopy(tiny.tokenizer())
    tokenizer.chat_template = tiny.TEMPLATE.replace("<|end|>", "{{ eos_token }}")
    model = wrap(tiny.network("llama"), tokenizer, "made")
    assert added_tokens(tokenizer)["<|end|>"] == model.chat.ends.ids[0]
    text = "Strike <s>this</s> out, [INST] and <|im_end|> too."
    row = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert model.chat.until_end(row, model.eos_ids) == (row, False)


def test_channels_within_an_answer_do_not_end_it() -> None:
    tokenizer: Any = copy.deepcopy(tiny.tokenizer())
    tokenizer.add_tokens(["<|start|>", "<|message|>", "<|channel|>", "<|return|>"])
    tokenizer.chat_template = (
        "{% for m in messages %}<|start|>{{ m['role'] }}{% if m['role'] == 'assistant' %}<|channel|>final{% endif %}"
        "<|message|>{{ m['content'] }}"
        "{% if loop.last and m['role'] == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    )
    net: Any = tiny.network("llama")
    net.resize_token_embeddings(len(tokenizer))
    tokenizer.eos_token = "<|return|>"
    net.generation_config.eos_token_id = None
    model = wrap(net, tokenizer, "made")
    text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>No.<|return|>"
    row = tokenizer(text, add_special_tokens=False)["input_ids"]
    answer, ended = model.chat.until_end([*row, *row], model.eos_ids)
    assert (answer, ended) == (row, True)
    assert read(model, row).text == "No."
    assert read(model, row).thinking == "Hm."
    assert not read(model, row[: row.index(tokenizer.convert_tokens_to_ids("<|end|>"))]).finished


# Thinking ---------------------------------------------------------------------------------------------------------

THINKERS = {
    "opened by the template": Script(opens="<think>", beginning=THINKS),
    "opened by the model": Script(beginning=THINKS),
    "with a switch": Script(opens="<think>", beginning=THINKS, switch=True),
}


@pytest.mark.parametrize("script", THINKERS.values(), ids=THINKERS)
def test_thinking_is_off_unless_asked(script: Script) -> None:
    model = scripted.model(script)
    assert words(model, model.encode([GOOD])[0])[-2:] == ["<think>", "</think>"]
    ids = generate_ids(model, [BAD, GOOD], max_new_tokens=12)
    assert words(model, ids[0]) == [*scripted.REFUSAL, scripted.TURN]
    assert decode(model, ids) == [REFUSED, ANSWERED]
    assert all(read(model, each).finished for each in ids)
    assert "closed block put in front (<think>)" in model.describe()["template"]["thinking"]


@pytest.mark.parametrize("script", THINKERS.values(), ids=THINKERS)
def test_thinking_is_cut_off_what_is_said(script: Script) -> None:
    model = scripted.model(script).asked(thinking="on", thinking_tokens=20)
    ids = generate_ids(model, [BAD, GOOD], max_new_tokens=3)
    found = [read(model, each) for each in ids]
    assert [each.thinking for each in found] == [" ".join(THOUGHT)] * 2
    assert [each.text for each in found] == ["Sorry, I cannot", "Gladly: first one"]
    assert [(each.finished, each.ended) for each in found] == [(True, False)] * 2
    assert generate(model, [BAD, GOOD], max_new_tokens=12) == [REFUSED, ANSWERED]
    assert model.describe()["template"]["thinking"] == "on (<think>)"


@pytest.mark.parametrize("script", THINKERS.values(), ids=THINKERS)
@pytest.mark.parametrize("tokens", [1, 5, 8])
def test_an_answer_cut_in_its_thinking_is_unfinished(script: Script, tokens: int) -> None:
    model = scripted.model(script).asked(thinking="on", thinking_tokens=tokens)
    ids = generate_ids(model, [BAD, GOOD], max_new_tokens=12)
    assert {len(each) for each in ids} == {tokens}
    found = [read(model, each) for each in ids]
    assert [(each.text, each.finished) for each in found] == [("", False)] * 2


def test_an_answer_that_says_nothing_is_unfinished_unless_it_ended() -> None:
    model = scripted.model()
    blank = ids_of(model, scripted.PAD, scripted.PAD)
    assert not read(model, blank).finished
    assert not read(model, []).finished
    assert read(model, [*blank, *model.chat.ends.ids]).finished
    assert read(model, ids_of(model, "word1")).finished


def test_a_model_that_does_not_think_is_given_no_block_and_no_more_tokens() -> None:
    model = scripted.model().asked(thinking="on", thinking_tokens=500)
    assert model.chat.limit(12) == 12
    assert model.encode([GOOD]) == scripted.model().encode([GOOD])
    assert model.describe()["template"]["thinking"] == "none seen"
    assert generate(model, [BAD, GOOD], max_new_tokens=2) == ["Sorry, I", "Gladly: first"]


def test_a_switch_that_works_needs_no_block() -> None:
    script = Script(opens="<think>", switch=True)
    model = scripted.model(script)
    assert words(model, model.encode([GOOD])[0])[-1] == scripted.ASSISTANT
    assert model.describe()["template"]["thinking"] == "off: template told enable_thinking=False"
    assert generate(model, [BAD, GOOD], max_new_tokens=12) == [REFUSED, ANSWERED]
