"""Prompts: what the user says in one turn, or a conversation that ends with the user's turn.

A prompt of one turn is a plain string wherever it stands, so that `[{"role": "user", "content": text}]` and `text` are
the same prompt with the same hash. No message repeats the text of a prompt: it names its place and what is wrong.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from bures.errors import PromptError

ROLES = ("system", "developer", "user", "assistant")
"""Whose turns a conversation may have."""

SHAPE = "a conversation is a list of turns, each with a role and a content, and ends with the user's turn"

_UNIT = "\x1f"
"""Between the parts of a conversation that is hashed; it is whitespace, so no folded text holds one."""


@dataclass(frozen=True)
class Turn:
    """What one side says."""

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """Turns, the last of which is the user's; two at least, for one alone is a string."""

    turns: tuple[Turn, ...]

    def messages(self) -> list[dict[str, str]]:
        """The turns as chat templates and JSON have them."""
        return [{"role": turn.role, "content": turn.content} for turn in self.turns]


Prompt: TypeAlias = str | Conversation
PromptLike: TypeAlias = Prompt | Sequence[Mapping[str, Any]]
"""What callers may hand over for a prompt; `as_prompt` makes one of it."""


def as_prompt(value: object, where: str) -> Prompt:
    """A prompt out of a string or a list of messages; `where` names its place in errors.

    Raises:
        PromptError: it is neither, it is blank or no valid Unicode, or the conversation has a wrong shape.
    """
    prompt = value if isinstance(value, Conversation) else _text(value)
    if prompt is None:
        prompt = _conversation(value, where)
    for text in [prompt] if isinstance(prompt, str) else [turn.content for turn in prompt.turns]:
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise PromptError(f"{where} is not valid Unicode: it has a lone surrogate")
    if not asked(prompt).strip():
        raise PromptError(f"{where} is blank: expected text")
    return prompt


def prompts_of(prompts: object, of: str = "") -> list[Prompt]:
    """The prompts of a list, or of anything else that has them in order; `of` says in errors whose they are.

    Raises:
        PromptError: it is no list of prompts, or one of them is no prompt.
    """
    what = None
    if isinstance(prompts, str | bytes):
        what = "one string (put it into a list)"
    elif isinstance(prompts, Mapping | set | frozenset):
        what = f"a {type(cast('object', prompts)).__name__}, which has no order"
    elif not isinstance(prompts, Iterable):
        what = "None" if prompts is None else f"a {type(prompts).__name__}"
    if what is not None:
        raise PromptError(f"the prompts{of} are {what}: expected a list of prompts, each a string or a conversation")
    found: list[object] = list(cast("Iterable[object]", prompts))
    if found and all(isinstance(each, Mapping) and "role" in each for each in found):
        raise PromptError(f"the prompts{of} are the turns of one conversation; put the conversation into a list")
    return [as_prompt(each, f"prompt {number}{of}") for number, each in enumerate(found, start=1)]


def asked(prompt: Prompt) -> str:
    """What the user says last: all that a judge reads of a prompt."""
    return prompt if isinstance(prompt, str) else prompt.turns[-1].content


def messages_of(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as chat templates take it."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt.messages()


def plain(prompt: Prompt) -> str | list[dict[str, str]]:
    """A prompt as JSON has it; `as_prompt` reads it back."""
    return prompt if isinstance(prompt, str) else prompt.messages()


def hashed_text(prompt: Prompt) -> str:
    """What of a prompt is hashed: blind to letter case, Unicode composition, and the amount and kind of whitespace."""
    if isinstance(prompt, str):
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", prompt).casefold())
        return " ".join(folded.split())
    return _UNIT.join(part for turn in prompt.turns for part in (turn.role, hashed_text(turn.content)))


def parsed(cell: str) -> object:
    """A table's cell as the conversation that it spells in JSON; the cell itself where it spells none."""
    try:
        value: object = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return value if isinstance(value, list) else cell


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str) else None


def _conversation(value: object, where: str) -> Prompt:
    """A prompt out of a list of messages."""
    if hasattr(value, "tolist"):  # an array: how pandas holds a list
        value = cast("Any", value).tolist()
    if not isinstance(value, list | tuple):
        is_empty = value is None or (isinstance(value, float) and math.isnan(value))
        what = "missing" if is_empty else f"a {type(value).__name__}"
        raise PromptError(f"{where} is {what}: expected a string or a conversation")
    messages = cast("Sequence[object]", value)
    if not messages:
        raise PromptError(f"{where} is an empty conversation; {SHAPE}")
    turns = [_turn(message, f"turn {number} of {where}") for number, message in enumerate(messages, start=1)]
    if turns[-1].role != "user":
        raise PromptError(f"{where} ends with a turn of the {turns[-1].role}; {SHAPE}: cut it behind the last one")
    for number, turn in enumerate(turns[1:], start=2):
        if turn.role in ROLES[:2]:
            raise PromptError(f"turn {number} of {where} is of the {turn.role}: expected it to come first, or not")
    return turns[0].content if len(turns) == 1 else Conversation(tuple(turns))


def _turn(message: object, where: str) -> Turn:
    if not isinstance(message, Mapping):
        raise PromptError(f"{where} is no message but a {type(message).__name__}; {SHAPE}")
    fields = cast("Mapping[str, object]", message)
    if "role" not in fields or "content" not in fields:
        raise PromptError(f"{where} has no {'role' if 'role' not in fields else 'content'}; {SHAPE}")
    role, content = fields["role"], fields["content"]
    if role not in ROLES:
        name = role if isinstance(role, str) and role.isidentifier() and len(role) <= 20 else type(role).__name__
        raise PromptError(f"{where} has the role {name}: expected one of {', '.join(ROLES)}")
    if isinstance(content, list | tuple):
        content = _joined(cast("Sequence[object]", content), where)
    if not isinstance(content, str):
        raise PromptError(f"{where} has a content that is no text but a {type(content).__name__}")
    return Turn(str(role), content)


def _joined(parts: Sequence[object], where: str) -> str:
    """The text of a content in parts."""
    texts: list[str] = []
    for part in parts:
        fields = cast("Mapping[str, object]", part) if isinstance(part, Mapping) else {}
        text = part if isinstance(part, str) else fields.get("text")
        if fields.get("type", "text") != "text" or not isinstance(text, str):
            raise PromptError(f"{where} has a part that is no text (an image, a file): bures asks with text alone")
        texts.append(text)
    return "\n".join(texts)
