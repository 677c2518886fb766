"""Models that think aloud before they answer: the formats of their thinking, how it is switched off, where it ends.

Most write it between two tags of one name (`<think>`, `[THINK]`, `<|START_THINKING|>`), some into a channel of its own
(gpt-oss, Gemma 4), a few behind a phrase. All that a caller needs is a `Block`: what opens it, what closes it, and what
then opens the answer. Texts are those with special tokens in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Thinking = Literal["off", "on"]


@dataclass(frozen=True)
class Block:
    """One format of thinking.

    Attributes:
        open: what opens the thinking.
        close: what closes it.
        answer: what opens the answer behind it, where the format has such a thing.
        gap: what stands between the two tags of a block with nothing in it, and behind it.
    """

    open: str
    close: str
    answer: str = ""
    gap: str = ""

    def closing(self, before: str = "") -> str:
        """What closes the block at once; `before` is the text that ends with its opening."""
        gap = self.gap[1:] if self.gap and before.endswith("\n") else self.gap
        return gap + self.close + self.gap + self.answer

    def empty(self) -> str:
        """The whole block with nothing in it: put in front of an answer, there is nothing left to think about."""
        return self.open + self.closing(self.open)


CHANNELS = (
    Block("<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant<|channel|>final<|message|>"),
    Block("<|channel>thought\n", "<channel|>"),
    Block("<|open|>think<|sep|>", "<|close|>think<|sep|>", "<|open|>response<|sep|>"),
    Block("Here is my thought process:", "Here is my response:", gap="\n\n"),
    Block("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", gap="\n"),
)
"""Formats whose two ends are not spelled alike: gpt-oss, Gemma 4, Kimi K3, Granite 3.2, Apriel."""

_STEM = r"(?:think|thought|reason|reflect|scratch_?pad|ponder|deliberat|monologue|rationale|inner_prefix)"
_NAME = rf"[\w:.-]*{_STEM}[\w:.-]*"
_TAG = re.compile(
    rf"<(?P<a>{_NAME})>|\[(?P<s>{_NAME})\]|\u25c1(?P<t>{_NAME})\u25b7|<\|(?P<p>{_NAME})\|>", re.IGNORECASE
)
_LAST = {"start": "end", "begin": "end", "prefix": "suffix", "open": "close"}
_IS_LAST = re.compile(r"(?:^|_)(?:end|suffix|close|stop)(?:$|_)", re.IGNORECASE)
_STRAY = re.compile(r"</(?:\w+:)?(?:think|thinking|thought|thoughts|reasoning)>|\[/THINK\]|\u25c1/think\u25b7")
_HEADER = re.compile(r"\s*(?:<\|start\|>assistant)?")
_ANSWER = re.compile(
    r"\s*(?:<\|start\|>assistant)?(?:<\|channel\|>final<\|message\|>|<\|START_RESPONSE\|>|<\|begin_of_solution\|>|"
    r"<\|open\|>response<\|sep\|>|\[BEGIN FINAL RESPONSE\]|<(?:answer|response|solution|output)>)\s*"
)
_ANSWERED = re.compile(
    r"\s*(?:<\|END_RESPONSE\|>|<\|end_of_solution\|>|<\|close\|>response<\|sep\|>|\[END FINAL RESPONSE\]|"
    r"</(?:answer|response|solution|output)>)"
)


def blocks_in(text: str) -> Iterator[tuple[int, Block]]:
    """Every opening of a block in a text, and its place, in order."""
    found = [(match.start(), _tagged(match)) for match in _TAG.finditer(text)]
    for block in CHANNELS:
        found += [(match.start(), block) for match in re.finditer(re.escape(block.open.rstrip()), text)]
    for place, block in sorted(((place, block) for place, block in found if block is not None), key=lambda at: at[0]):
        yield place, block


def _tagged(match: re.Match[str]) -> Block | None:
    """The block that a tag opens; None where the tag closes one."""
    if match["a"]:
        return Block(match[0], f"</{match['a']}>", gap="\n\n")
    if match["s"]:
        return Block(match[0], f"[/{match['s']}]")
    if match["t"]:
        return Block(match[0], f"\u25c1/{match['t']}\u25b7")
    name = match["p"]
    if _IS_LAST.search(name):
        return None
    swapped = re.sub("|".join(_LAST), lambda part: _in_case(_LAST[part[0].lower()], part[0]), name, flags=re.IGNORECASE)
    return Block(match[0], f"<|{swapped}|>" if swapped != name else f"<|/{name}|>")


def _in_case(word: str, like: str) -> str:
    return word.upper() if like.isupper() else word


def left_open(text: str) -> tuple[Block, ...]:
    """The blocks that a text opens and does not close, the outer one first."""
    return tuple(
        block for place, block in blocks_in(text) if block.close not in text[place + len(block.open.rstrip()) :]
    )


def leading(text: str) -> Block | None:
    """The block that a text opens before it says anything."""
    start = _HEADER.match(text)
    begin = 0 if start is None else start.end()
    return next((block for place, block in blocks_in(text) if not text[begin:place].strip()), None)


def may_open(text: str) -> bool:
    """Whether the beginning of an answer may still become the opening of a block."""
    start = text.lstrip()
    if not start or start[0] in "<[\u25c1":
        return leading(text) is None and len(start) < 48
    return any(block.open.startswith(start) and block.open != start for block in CHANNELS)


# Answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thought:
    """An answer taken apart.

    Attributes:
        thinking: what was thought, without its tags; None where there is no thinking.
        said: what follows: all that is judged.
        finished: whether the thinking came to its end.
    """

    thinking: str | None
    said: str
    finished: bool = True


def split_thinking(text: str, opened: Block | None = None) -> Thought:
    """Takes an answer apart.

    Args:
        text: the answer, with its special tokens.
        opened: the block that the prompt has opened already.
    """
    thoughts: list[str] = []
    block = opened
    if block is None and leading(text) is None and (stray := _STRAY.search(text)):
        thoughts, text = [text[: stray.start()].strip()], text[stray.end() :]  # thought without opening a block
    while block := block or leading(text):
        body = text if block is opened and not thoughts else text.partition(block.open.rstrip())[2]
        thinking, closed, text = body.partition(block.close)
        thoughts.append(thinking.strip())
        if not closed:
            return Thought("\n".join(thoughts), "", finished=False)
        block = None
    return Thought("\n".join(thoughts) if thoughts else None, _unwrapped(text))


def _unwrapped(text: str) -> str:
    """An answer without the tags that some formats put around it."""
    start = _ANSWER.match(text)
    if start is None:
        return text
    return _ANSWERED.split(text[start.end() :], maxsplit=1)[0]


# Switches ---------------------------------------------------------------------------------------------------------

_CODE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_WORD = re.compile(r"(?<![.\w])(\w*(?:think|thought|reason)\w*)\b(?!\s*\()")
_OF_HISTORY = re.compile(r"^(?:keep|preserve|clear|drop|truncate|strip|include|show|remove|past|last|has|in)_|history")
_NO_SWITCH = re.compile(
    r"_(?:content|tokens?|text|prompt|instructions?|start|end|begin|index|ids?|block|tag|string|format)$"
)
_NEGATIVE = re.compile(r"^(?:no|skip|disable|without|hide)_|^nothink")
_NONE = ("none", "off", "no_think", "disabled", "nothink")


@dataclass(frozen=True)
class Switches:
    """What a template is told so that it asks for thinking, or for none."""

    off: dict[str, object] = field(default_factory=dict[str, object])
    on: dict[str, object] = field(default_factory=dict[str, object])


def switches_of(template: str) -> Switches:
    """The switches that a template reads from its caller."""
    code = "\n".join(_CODE.findall(template))
    bare = _STRING.sub("''", code)
    literals = {literal[1:-1].lower() for literal in _STRING.findall(code)}
    off: dict[str, object] = {}
    on: dict[str, object] = {}
    for name in dict.fromkeys(_WORD.findall(bare)):
        is_asked = re.search(
            rf"(?<![.\w]){name}\s+is\s+(?:not\s+)?(?:un)?defined|(?<![.\w]){name}\s*\|\s*default", bare
        )
        is_set = re.search(rf"\bset\s+{name}\b|\bfor\s+{name}\b|[(,]\s*{name}\s*[,)=]", bare)
        if (is_set and not is_asked) or _OF_HISTORY.search(name) or _NO_SWITCH.search(name):
            continue
        if "budget" in name:
            off[name] = 0
        elif re.search(r"effort|level|mode", name):
            known = [word for word in _NONE if word in literals]
            off.update({name: known[0]} if known else {})
        else:
            off[name], on[name] = bool(_NEGATIVE.search(name)), not _NEGATIVE.search(name)
    return Switches(off, on)
