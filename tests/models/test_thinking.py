"""Formats of thinking: seen where they open, closed where nothing is to be thought, cut off what is said."""

from __future__ import annotations

import pytest

from bures.models.thinking import Block, leading, left_open, may_open, split_thinking, switches_of

FORMATS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|thinking_start|>": "<|thinking_end|>",
    "<|think|>": "<|/think|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|channel|>analysis<|message|>": "<|end|>",
    "<|channel>thought\n": "<channel|>",
    "<|open|>think<|sep|>": "<|close|>think<|sep|>",
    "Here is my thought process:": "Here is my response:",
    "Here are my reasoning steps:": "[BEGIN FINAL RESPONSE]",
}


@pytest.mark.parametrize(("open_", "close"), FORMATS.items())
def test_every_format_is_seen_closed_and_taken_apart(open_: str, close: str) -> None:
    block = leading(f" {open_}Let me see.")
    assert block is not None
    assert (block.open.strip(), block.close) == (open_.strip(), close)
    assert left_open(f"<|assistant|>{open_}") == (block,)
    assert left_open(f"<|assistant|>{open_}{close}") == ()
    assert left_open(block.empty()) == left_open(open_ + block.closing(open_)) == ()
    whole = f"{open_}I could.{close}I will not."
    assert split_thinking(whole).said == "I will not."
    assert split_thinking(whole).thinking == "I could."
    assert split_thinking(f"I could.{close}I will not.", block).said == "I will not."
    for cut, opened in ((f"{open_}I could", None), ("I could", block), ("", block)):
        found = split_thinking(cut, opened)
        assert (found.said, found.finished) == ("", False), cut
    for end in range(1, len(open_.strip())):
        assert may_open(open_[:end]), open_[:end]
    assert not may_open(open_)


@pytest.mark.parametrize("text", ["", "Sorry, I cannot.", "I think <b>so</b>.", "a <think> in the middle", "<p>Hi</p>"])
def test_an_answer_without_thinking_is_said_as_it_is(text: str) -> None:
    assert leading(text) is None
    found = split_thinking(text)
    assert (found.thinking, found.said, found.finished) == (None, text, True)


def test_thinking_that_was_opened_by_nobody_ends_at_its_closing_tag() -> None:
    found = split_thinking("Let me see.\n</think>\n\nNo.")
    assert (found.thinking, found.said.strip(), found.finished) == ("Let me see.", "No.", True)


def test_thinking_twice_is_thinking() -> None:
    found = split_thinking("<think>a</think>\n<think>b</think>c")
    assert (found.thinking, found.said) == ("a\nb", "c")
    assert not split_thinking("<think>a</think><think>b").finished


def test_channels_and_wrappers_are_no_part_of_what_is_said() -> None:
    analysis = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    assert split_thinking(f"{analysis}<|channel|>final<|message|>No.").said == "No."
    assert split_thinking(f"{analysis}{analysis.removesuffix('<|start|>assistant')}").said == ""
    assert split_thinking("<|channel|>final<|message|>No.").said == "No."
    assert split_thinking("<think>a</think>\n<answer>No.</answer>").said == "No."
    assert split_thinking("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>No.<|END_RESPONSE|>").said == "No."


def test_a_closed_block_is_spelled_as_its_format_has_it() -> None:
    def empty(opening: str) -> str:
        block = leading(opening)
        assert block is not None
        return block.empty()

    assert empty("<think>") == "<think>\n\n</think>\n\n"
    assert Block("<think>", "</think>", gap="\n\n").closing("<think>\n") == "\n</think>\n\n"
    assert empty("[THINK]") == "[THINK][/THINK]"
    assert empty("<|channel|>analysis<|message|>") == (
        "<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>"
    )


@pytest.mark.parametrize(
    ("template", "off", "on"),
    [
        (
            "{% if enable_thinking is defined and enable_thinking is false %}{% endif %}",
            {"enable_thinking": False},
            True,
        ),
        (
            "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}",
            {"thinking": False},
            True,
        ),
        ("{% if no_think %}x{% endif %}", {"no_think": True}, False),
        ("{% if thinking_budget is defined and thinking_budget == 0 %}x{% endif %}", {"thinking_budget": 0}, None),
        ("{% if reasoning_effort == 'none' %}x{% endif %}", {"reasoning_effort": "none"}, None),
        ("{% if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}", {}, None),
        ("{% if m.reasoning_content is defined %}{{ m['thinking'] }}{% endif %}{{ '<think>' }}", {}, None),
        ("{% set think_token = '<think>' %}{{ think_token }}", {}, None),
        ("{% if preserve_thinking is defined %}x{% endif %}{% if clear_thinking %}{% endif %}", {}, None),
        ("I am thinking about {{ m['content'] }}", {}, None),
    ],
)
def test_the_switches_that_a_template_reads(template: str, off: dict[str, object], on: bool | None) -> None:
    found = switches_of(template)
    assert found.off == off
    assert found.on == ({} if on is None else dict.fromkeys(off, on))
