"""Where in a templated prompt an activation is read: its last token, or the last token of what the user says.

The template writes something behind what the user says (the end of the turn, the assistant's mark). What a model holds
at the last token of the instruction is how harmful it finds it, and behind that whether it will refuse (Zhao et al.,
arXiv 2507.11878), so the two are read apart. The instruction's end is found by rendering every prompt again with a mark
in place of what the user says last: what stands behind the mark is the template's tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from bures.data.conversations import Prompt, asked, messages_of
from bures.errors import ConfigError, ModelError
from bures.models.loading import ChatModel
from bures.results.names import Position

_MARK = "qzxjkvwqzxjkv"


def places_of(
    model: ChatModel, prompts: Sequence[Prompt], positions: Sequence[Position], *, system: str | None = None
) -> list[list[int]]:
    """The token of each position in each prompt, counted from the prompt's end (-1 is its last).

    Raises:
        ConfigError: the tokenizer cannot say which token holds which character, and `instruction` is asked for.
        ModelError: the template changes what the user says, so that its end cannot be found.
    """
    found = {
        "last": [-1] * len(prompts),
        "instruction": instruction_ends(model, prompts, system=system) if "instruction" in positions else [],
    }
    return [[found[position][i] for position in positions] for i in range(len(prompts))]


def instruction_ends(model: ChatModel, prompts: Sequence[Prompt], *, system: str | None = None) -> list[int]:
    """The last token of what the user says last, in each templated prompt, counted from the prompt's end.

    Raises:
        ConfigError: the tokenizer cannot say which token holds which character.
        ModelError: the template changes what the user says, so that its end cannot be found.
    """
    head = [] if system is None else [{"role": "system", "content": system}]
    chats = [[*head, *messages_of(prompt)] for prompt in prompts]
    marked = [[*chat[:-1], {**chat[-1], "content": _MARK}] for chat in chats]
    chat = model.chat
    texts = [text + chat.closing for text in chat.render(chats)]
    tails = [text.rpartition(_MARK)[2] + chat.closing for text in chat.render(marked)]
    tokenizer: Any = cast("Any", chat.tokenizer)
    if not tokenizer.is_fast:
        raise ConfigError(
            f"the tokenizer of {model.name} cannot say where the instruction ends; read at the position `last` alone"
        )
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    ends: list[int] = []
    rows = model.encode(prompts, system=system)
    for place, (prompt, text, tail) in enumerate(zip(prompts, texts, tails, strict=True)):
        before = text.removesuffix(tail).rstrip()
        is_found = text.endswith(tail) and before.endswith(asked(prompt).strip())
        if not is_found or list(encoded["input_ids"][place]) != rows[place]:
            raise ModelError(
                f"the chat template of {model.name} changes what the user says in prompt {place + 1}, so its last "
                "token cannot be found; read at the position `last` alone"
            )
        offsets: list[tuple[int, int]] = encoded["offset_mapping"][place]
        holding = [i for i, (first, _) in enumerate(offsets) if first < len(before)]
        ends.append(holding[-1] - len(offsets))
    return ends
