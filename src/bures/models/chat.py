"""How a chat model is spoken to: its template, the day it is told, its thinking, and where its turns end.

A `Chat` is settled once, when a model is loaded (`bures.models.settling`), and then tokenises every prompt alike. It is
part of what a figure depends on: `describe` says of it what results record, `tokenised` what the prompts became.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from bures.data.conversations import Prompt, PromptLike, messages_of, prompts_of
from bures.data.prompts import prompt_hash
from bures.errors import ModelError, PromptError
from bures.models.bounds import OutOfTimeError, RunawayTemplateError, bounded
from bures.models.thinking import Block, Thinking, Thought, split_thinking
from bures.models.turn_ends import TurnEnds

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, Any]]

THINKING_TOKENS = 1024
"""Tokens of thinking, unless told otherwise, behind which an answer is unfinished."""

SECONDS, SECONDS_EACH, MEGABYTES = 10.0, 0.02, 512
"""Bounds of rendering: of any number of conversations, more for each of them, and of memory."""

_CALL = re.compile(r"""strftime_now\(\s*("[^"\\]*"|'[^'\\]*')\s*\)""")


@dataclass(frozen=True)
class Chat:
    """How a model is spoken to.

    Attributes:
        tokenizer: its tokenizer.
        name: the model's, for errors.
        template: the Jinja template, as the tokenizer has it.
        thinking: whether the model is to think before it answers.
        thinking_tokens: how many tokens it may think for.
        date: the day that the template is told (ISO); None where it asks for none.
        parts: whether a content is handed over as a list of parts.
        switches: what the template is told of thinking.
        closing: what closes (or opens and closes) the thinking behind the generation prompt.
        opened: the block of thinking that the prompt leaves open.
        block: the format in which the model thinks; None where no thinking was seen.
        ends: where its turns end.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    template: str
    thinking: Thinking = "off"
    thinking_tokens: int = THINKING_TOKENS
    date: str | None = None
    parts: bool = False
    switches: Mapping[str, object] = field(default_factory=dict[str, object])
    closing: str = ""
    opened: Block | None = None
    block: Block | None = None
    ends: TurnEnds = field(default_factory=TurnEnds)

    # Prompts ------------------------------------------------------------------------------------------------------

    def encode(self, prompts: Iterable[PromptLike], *, system: str | None = None) -> list[list[int]]:
        """Token ids of each prompt, with the generation prompt behind it.

        Raises:
            PromptError: that is no list of prompts, or one has a system turn where there is a system prompt.
            ModelError: the template cannot render them, or makes the same of prompts that differ.
        """
        given = prompts_of(prompts)
        head = [] if system is None else [{"role": "system", "content": system}]
        chats = [[*head, *messages_of(prompt)] for prompt in given]
        for number, chat in enumerate(chats, start=1):
            if head and chat[1]["role"] != "user":
                raise PromptError(
                    f"prompt {number} has a {chat[1]['role']} turn of its own: leave the system prompt out"
                )
        rows = self.encode_messages(chats)
        self._require_distinct(given, rows)
        return rows

    def encode_messages(self, chats: Sequence[Messages]) -> list[list[int]]:
        """Token ids of conversations, rendered and tokenised in one go (no second BOS).

        Raises:
            ModelError: the template cannot render one.
        """
        if not chats:
            return []
        if self.closing:
            texts = [text + self.closing for text in self.render(chats)]
            encoded: Any = cast("Any", self.tokenizer)(texts, add_special_tokens=False)
        else:
            encoded = self._apply(chats, tokenize=True, return_dict=True, add_generation_prompt=True)
        return [list(map(int, row)) for row in encoded["input_ids"]]

    def render(self, chats: Sequence[Messages], *, generation_prompt: bool = True) -> list[str]:
        """What the template makes of conversations.

        Raises:
            ModelError: it cannot render one.
        """
        return [str(each) for each in self._apply(chats, tokenize=False, add_generation_prompt=generation_prompt)]

    def _apply(self, chats: Sequence[Messages], **options: Any) -> Any:
        told = [[dict(turn) for turn in chat] for chat in chats]
        if self.parts:
            for turn in (turn for chat in told for turn in chat):
                turn["content"] = [{"type": "text", "text": turn["content"]}]
        apply: Callable[..., Any] = cast("Any", self.tokenizer).apply_chat_template
        options |= {"chat_template": dated(self.template, self.date), **self.switches}
        seconds = SECONDS + SECONDS_EACH * len(told)
        try:
            with bounded(seconds, MEGABYTES):  # what is tokenised is rendered twice for it
                text = apply(told, **options | {"tokenize": False, "return_dict": False})
            return apply(told, **options) if options["tokenize"] else text
        except (OutOfTimeError, MemoryError) as error:
            limit = f"{MEGABYTES} MB" if isinstance(error, MemoryError) else f"{seconds:.0f} s"
            raise RunawayTemplateError(
                f"the chat template of {self.name} needs more than {limit} for {len(told)} conversations: it loops or "
                "grows without end, or they are too large; correct chat_template.jinja, or give fewer or another model"
            ) from error
        except Exception as error:  # jinja raises whatever the template's author wrote
            roles = list(dict.fromkeys(str(turn["role"]) for chat in told for turn in chat))
            advice = "leave the system prompt out" if "system" in roles else "choose prompts with turns that it knows"
            raise ModelError(
                f"the chat template of {self.name} cannot render a conversation of {', '.join(roles)} turns "
                f"({error}); {advice}"
            ) from error

    def _require_distinct(self, prompts: Sequence[Prompt], rows: Sequence[Sequence[int]]) -> None:
        """Raises where prompts that differ have become the same tokens."""
        first: dict[tuple[int, ...], int] = {}
        for place, row in enumerate(map(tuple, rows)):
            one = first.setdefault(row, place)
            if prompts[one] != prompts[place] and prompt_hash(prompts[one]) != prompt_hash(prompts[place]):
                texts = self.render([messages_of(prompts[one]), messages_of(prompts[place])])
                whose = "the chat template" if texts[0] == texts[1] else "the tokenizer"
                raise ModelError(
                    f"{whose} of {self.name} makes the same {len(row)} tokens of prompts {one + 1} and {place + 1}, "
                    "which differ: what they say does not reach the model; correct it, or leave one of them out"
                )

    # Answers ------------------------------------------------------------------------------------------------------

    def spelled(self, ids: Sequence[int]) -> str:
        """Tokens as text, special ones too."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def until_end(self, row: list[int], eos_ids: Sequence[int]) -> tuple[list[int], bool]:
        """The answer up to and with what ends it, and whether anything does."""
        return self.ends.until_end(row, eos_ids, self.spelled)

    def limit(self, max_new_tokens: int) -> int:
        """How many tokens an answer may have with its thinking."""
        return max_new_tokens + (self.thinking_tokens if self._thinks else 0)

    def within(self, row: list[int], max_new_tokens: int) -> list[int]:
        """An answer cut where its thinking, or what follows its thinking, is longer than allowed."""
        thought = self._thinking_length(row) if self._thinks else 0
        if thought is None or thought > self.thinking_tokens:
            return row[: self.thinking_tokens]
        return row[: thought + max_new_tokens]

    def _thinking_length(self, row: list[int]) -> int | None:
        """Tokens of an answer until its thinking is over; None where it is not."""
        thought = self.split(self.spelled(row))
        if thought.thinking is None or not thought.finished:
            return 0 if thought.finished else None
        low, high = 0, len(row)
        while low < high:
            middle = (low + high) // 2
            thought = self.split(self.spelled(row[:middle]))
            low, high = (low, middle) if thought.thinking is not None and thought.finished else (middle + 1, high)
        return low

    @property
    def _thinks(self) -> bool:
        return self.thinking == "on" and self.block is not None

    def split(self, text: str) -> Thought:
        """An answer, special tokens spelled out, taken apart into what was thought and what was said."""
        return split_thinking(text, self.opened)

    # Words --------------------------------------------------------------------------------------------------------

    @property
    def sha256(self) -> str:
        """Of the template."""
        return hashlib.sha256(self.template.encode("utf-8", "surrogatepass")).hexdigest()

    def describe(self) -> dict[str, Any]:
        """What results record of it."""
        return {
            "sha256": self.sha256,
            "date": self.date,
            "parts": self.parts,
            "thinking": self.thinking_words,
            "thinking_tokens": self.thinking_tokens if self._thinks else None,
            "ends": [*map(str, cast("Any", self.tokenizer).convert_ids_to_tokens(list(self.ends.ids)))],
        }

    @property
    def thinking_words(self) -> str:
        """What is done about thinking."""
        told = ", ".join(f"{name}={value}" for name, value in self.switches.items())
        if self.thinking == "on":
            return f"on ({self.block.open.strip()})" if self.block else "none seen"
        words = [f"template told {told}"] if told else []
        words += [f"closed block put in front ({self.block.open.strip()})"] if self.closing and self.block else []
        return "off: " + ", ".join(words) if words else "none seen"


def dated(template: str, date: str | None) -> str:
    """A template that is told the given day whenever it asks for the present one; as it is where no day is given.

    transformers has no argument for the clock of a template, so the calls are replaced by what they would return.
    """
    if date is None:
        return template
    noon = datetime.datetime.combine(datetime.date.fromisoformat(date), datetime.time(12))
    return _CALL.sub(lambda call: json.dumps(noon.strftime(call[1][1:-1]), ensure_ascii=False), template)


# Prompts as tokens ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokenised:
    """What prompts became.

    Attributes:
        sha256: of the token ids of every prompt, in order.
        n: prompts.
        longest: tokens of the longest.
        window: tokens that the model reads; None where it does not say.
        beyond: places of the prompts that are longer than the window leaves room for.
    """

    sha256: str
    n: int
    longest: int
    window: int | None
    beyond: tuple[int, ...]

    def describe(self) -> dict[str, Any]:
        """What results record."""
        return {
            "sha256": self.sha256,
            "longest": self.longest,
            "window": self.window,
            "beyond_window": len(self.beyond),
        }


def tokenised(rows: Sequence[Sequence[int]], window: int | None, *, room: int = 0) -> Tokenised:
    """What prompts became; `room` is for the answer's tokens, which the window has to hold too.

    Raises:
        PromptError: there are no prompts.
    """
    if not rows:
        raise PromptError("no prompts were tokenised: expected at least one")
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(list(row), separators=(",", ":")).encode("ascii") + b"\n")
    beyond = () if window is None else tuple(i for i, row in enumerate(rows) if len(row) + room > window)
    return Tokenised(digest.hexdigest(), len(rows), max(map(len, rows)), window, beyond)
