"""Prompts and answers as exhibits for a judge that is a language model: text that is looked at and never obeyed.

An answer under test may hold whatever a judge would take for the end of its turn, for a turn of somebody else, or for
its own verdict. The tokens by which a template marks turns must not come out of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

_JOINER = "\u2060"
"""The word joiner: takes no room and is no part of any special token."""

_ESCAPED = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>[]|"}
"""Signs of which the special tokens of chat templates are made, as JSON may also spell them inside a string."""


def defused(text: str, tokens: Iterable[str]) -> str:
    """The text with a word joiner inside every special token that it spells.

    Args:
        text: of a prompt or an answer.
        tokens: that a tokenizer keeps whole; those of one character are left as they are.
    """
    for token in sorted((each for each in tokens if len(each) > 1), key=len, reverse=True):
        text = text.replace(token, token[0] + _JOINER + token[1:])
    return text


def as_json(**texts: str) -> str:
    """Texts as one JSON object, in which no special token of a chat template can be spelled."""
    inside = {name: json.dumps(text, ensure_ascii=False).translate(_ESCAPED) for name, text in texts.items()}
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in inside.items()) + "}"
