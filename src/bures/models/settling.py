"""Finding out how a model wants to be spoken to: by rendering made-up prompts, and by how its answers begin."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch

from bures.data.conversations import messages_of
from bures.errors import ModelError
from bures.models.bounds import RunawayTemplateError
from bures.models.chat import THINKING_TOKENS, Chat
from bures.models.offloading import device_of
from bures.models.thinking import Block, Thinking, blocks_in, leading, left_open, may_open, switches_of
from bures.models.turn_ends import NEXT, USER, turn_ends

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROBES = ("Name three rivers.", "What is two and two?")
"""Asked to see whether a model opens its thinking by itself."""


def settled(
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    *,
    hf: PreTrainedModel | None = None,
    thinking: Thinking = "off",
    thinking_tokens: int = THINKING_TOKENS,
    date: str | None = None,
) -> Chat:
    """How a model is spoken to, found out by rendering made-up prompts and looking at how its answers begin.

    Args:
        tokenizer: the model's; it has a chat template.
        name: the model's.
        hf: the model; None: how its answers begin is not looked at.
        thinking: whether the model is to think.
        thinking_tokens: for how many tokens.
        date: what day the template is told, where it asks for one; default: today.

    Raises:
        ModelError: the template drops what the user says, as a string and as a list of parts.
    """
    try:
        template = str(cast("Any", tokenizer).get_chat_template())
    except ValueError as error:
        raise ModelError(f"the tokenizer of {name} has chat templates but none named default: {error}") from error
    day = (date or datetime.date.today().isoformat()) if "strftime_now" in template else None
    chat = Chat(tokenizer, name, template, thinking, thinking_tokens, day)
    chat = _heard(chat, getattr(switches_of(template), thinking))
    tail = _tail(chat)
    left = left_open(tail)
    if left:
        closing = "" if thinking == "on" else _closed(left, tail)
        chat = replace(chat, block=left[0], closing=closing, opened=left[0] if thinking == "on" else None)
    elif shut := next(blocks_in(tail), None):
        chat = replace(chat, block=shut[1])
    elif hf is not None and (seen := _opening(chat, hf)):
        chat = replace(chat, block=seen, closing="" if thinking == "on" else seen.empty())
    return replace(chat, ends=turn_ends(lambda turns, ask: chat.render([turns], generation_prompt=ask)[0], tokenizer))


def _heard(chat: Chat, switches: Mapping[str, object]) -> Chat:
    """The chat with the form of content in which what the user says arrives, and with the switches that can be told."""
    usable = dict[str, object]()
    for name, value in switches.items():
        if _probed(replace(chat, switches={name: value})) or _probed(replace(chat, switches={name: value}, parts=True)):
            usable[name] = value
    forms = [replace(chat, switches=usable, parts=parts) for parts in (False, True)]
    probes = [_probed(form) for form in forms]
    for form, texts in zip(forms, probes, strict=True):
        if texts is not None and texts[0] != texts[1]:
            return form
    if probes == [None, None]:
        return chat  # whoever asks will read why
    raise ModelError(
        f"the chat template of {chat.name} leaves out what the user says, handed over as a string and as a list of "
        "parts; correct chat_template.jinja, or choose another model"
    )


def _probed(chat: Chat) -> list[str] | None:
    """What the template makes of two prompts that differ; None where it cannot be rendered."""
    try:
        return chat.render([messages_of(USER), messages_of(NEXT)])
    except RunawayTemplateError:
        raise
    except ModelError:
        return None


def _tail(chat: Chat) -> str:
    """What the template writes behind what the user says."""
    texts = _probed(chat)
    return "" if texts is None else texts[0].rpartition(USER)[2]


def _closed(left: Sequence[Block], tail: str) -> str:
    """What closes the blocks that a text has left open, the inner one first."""
    closing = ""
    for block in reversed(left):
        closing += block.closing(tail + closing)
    return closing


def _opening(chat: Chat, hf: PreTrainedModel) -> Block | None:
    """The block of thinking that the model opens by itself."""
    asked = chat.encode_messages([messages_of(probe) for probe in PROBES])
    embedding: Any = hf.get_input_embeddings()
    most, held = max(max(ids, default=0) for ids in asked), int(embedding.weight.shape[0])
    if most >= held:
        raise ModelError(
            f"the tokenizer writes the token {most}, and the model's embedding has {held}; "
            "give the tokenizer that the model was made with"
        )
    found = (leading(_beginning(hf, chat, ids)) for ids in asked)
    return next((block for block in found if block is not None), None)


@torch.inference_mode()
def _beginning(hf: PreTrainedModel, chat: Chat, ids: list[int], most: int = 16) -> str:
    """How the greedy answer to a prompt begins: as far as it may still open a block of thinking."""
    device = device_of(hf)
    new: list[int] = []
    text = ""
    while len(new) < most and may_open(text):
        logits = hf(input_ids=torch.tensor([[*ids, *new]], device=device), use_cache=False).logits
        new.append(int(logits[0, -1].argmax()))
        text = chat.spelled(new)
    return text
