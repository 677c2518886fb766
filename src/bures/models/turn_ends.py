"""Where an answer ends: the tokens and the texts that a chat template writes behind a turn and before the next one.

The tokenizer's eos is often another token, and a model that misses its turn's end goes on with the next turn: what
stands there belongs to nobody's answer. A template is asked by rendering: a conversation whose last turn is the
assistant's shows what closes a turn, one that goes on shows the header of the turn that follows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from bures.models.bounds import RunawayTemplateError
from bures.models.thinking import CHANNELS, blocks_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

USER, ASSISTANT, NEXT = "Lanterns", "Marbles", "Nutmeg"
"""What the turns of a conversation that only shows the template say."""

Render = Callable[[list[dict[str, str]], bool], str]
"""Renders messages, with the generation prompt or without it."""

_MARKUP = re.compile(r"[<\[{|#\u25c1]")
_BRACKETED = re.compile(r"<\|?[^<>\s]+\|?>|\[/?[^\[\]\s]+\]")


@dataclass(frozen=True)
class TurnEnds:
    """What ends a turn.

    Attributes:
        ids: tokens.
        pattern: texts, special tokens spelled out; None where the template has none of its own.
    """

    ids: tuple[int, ...] = ()
    pattern: re.Pattern[str] | None = None

    def place(self, text: str) -> tuple[int, int] | None:
        """Where the first of the texts begins and ends; an answer may begin with its own header."""
        for found in () if self.pattern is None else self.pattern.finditer(text):
            if found.lastgroup != "own" or text[: found.start()].strip():
                return found.span()
        return None

    def until_end(
        self, row: list[int], eos_ids: Sequence[int], decode: Callable[[list[int]], str]
    ) -> tuple[list[int], bool]:
        """The answer up to and with what ends it, and whether anything does.

        Args:
            row: token ids.
            eos_ids: tokens that end an answer.
            decode: spells tokens, special ones too.
        """
        place = next((i for i, token in enumerate(row) if token in eos_ids), None)
        cut, ended = (row, False) if place is None else (row[: place + 1], True)
        span = self.place(decode(cut))
        if span is None:
            return cut, ended
        low, high = 1, len(cut)  # the fewest tokens that spell the text to its end
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if len(decode(cut[:middle])) >= span[1] else (middle + 1, high)
        return cut[:low], True


def turn_ends(render: Render, tokenizer: PreTrainedTokenizerBase) -> TurnEnds:
    """What ends a turn of the assistant, by the template that `render` renders; nothing where it cannot be rendered."""
    said = (("user", USER), ("assistant", ASSISTANT), ("user", NEXT))
    user, assistant, after = ({"role": role, "content": content} for role, content in said)
    try:
        closed = render([user, assistant], False)
        followed = render([user, assistant, after], False)
        asked, unasked = render([user], True), render([user], False)
    except RunawayTemplateError:
        raise
    except Exception:  # noqa: BLE001  (jinja raises whatever the template's author wrote: it has no such conversation)
        return TurnEnds()
    added = added_tokens(tokenizer)
    inside = {block.close + block.answer for block in CHANNELS if any(block.open.startswith(token) for token in added)}
    suffix = _behind(closed, ASSISTANT)
    between = _behind(followed, ASSISTANT).partition(NEXT)[0]
    token = next((t for t in _tokens(suffix or between, added) if not any(t in each for each in inside)), None)
    written = None if token else _BRACKETED.match(suffix.strip())
    ending = token or (written[0] if written else "")
    texts = [re.escape(ending)] if written else []
    follows = between.partition(ending)[2] if suffix and ending and ending in between else between
    generation = asked[len(unasked) :] if asked.startswith(unasked) else ""
    ids = [] if token is None else [added[token]]
    for group, header in (("next", _header(follows, tokenizer)), ("own", _header(generation, tokenizer))):
        if not header or any(header in each for each in inside):
            continue
        if header in added:
            ids.append(added[header])  # one token: generation stops there
        else:
            texts.append(f"(?P<{group}>{_pattern(header)})")
    return TurnEnds(tuple(dict.fromkeys(ids)), re.compile("|".join(texts), re.MULTILINE) if texts else None)


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Every token that a tokenizer keeps whole, whatever stands beside it, but those of whitespace."""
    some = cast("Any", tokenizer)
    special = {str(token): some.convert_tokens_to_ids(str(token)) for token in some.all_special_tokens}
    return {token: int(i) for token, i in {**some.get_added_vocab(), **special}.items() if token.strip()}


def _behind(text: str, word: str) -> str:
    return text[text.rindex(word) + len(word) :] if word in text else ""


def _tokens(text: str, added: Iterable[str]) -> list[str]:
    """The added tokens that a text begins with, whitespace aside, in order."""
    found: list[str] = []
    longest_first = sorted(added, key=len, reverse=True)
    while text := text.strip():
        token = next((each for each in longest_first if text.startswith(each)), None)
        if token is None:
            plain = re.match(r"[\w]+", text) if found else None  # `<|close|>response<|sep|>`
            if plain is None:
                return found
            text = text[plain.end() :]
            continue
        found.append(token)
        text = text[len(token) :]
    return found


def _header(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """What a turn begins with: the first line that is written, without the marks of a text and without thinking."""
    marks = [str(mark) for mark in (tokenizer.bos_token, tokenizer.eos_token) if mark]
    line = next((line for line in text.splitlines() if line.strip()), "").strip()
    while mark := next((mark for mark in marks if line.startswith(mark)), None):
        line = line[len(mark) :].strip()
    return line[: next((place for place, _ in blocks_in(line)), len(line))].strip()


def _pattern(header: str) -> str:
    """A header wherever it stands if no author would write it; else one that begins a line, or is one."""
    if _MARKUP.match(header) or _BRACKETED.search(header):
        return re.escape(header)
    return rf"^[ \t]*{re.escape(header)}" + ("" if header.endswith(":") else r"[ \t]*$")
