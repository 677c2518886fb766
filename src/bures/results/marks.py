"""What judges' verdicts on single answers come to in results: one character a prompt.

A mark has three values: refused (`1`), not refused (`0`), and unfinished (`-`): an answer whose tokens ran out inside
its thinking, or before it said anything, is neither a refusal nor a success.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Mark: TypeAlias = bool | None
"""Whether an answer counts as refused; None where it is unfinished."""

UNFINISHED = "-"

_SPELLED: dict[Mark, str] = {False: "0", True: "1", None: UNFINISHED}


def spelled(marks: Sequence[Mark]) -> str:
    """Marks as results keep them, one character an answer: 1 refused, 0 not refused, - unfinished."""
    return "".join(_SPELLED[mark] for mark in marks)


def answered(text: str) -> list[bool]:
    """Whether each answer is certainly none of refusal, from marks as results keep them."""
    return [mark is False for mark in marks_of(text)]


def marks_of(text: str) -> list[Mark]:
    """The inverse of `spelled`."""
    read = {character: mark for mark, character in _SPELLED.items()}
    return [read[character] for character in text]
