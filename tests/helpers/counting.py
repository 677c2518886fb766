"""How many positions the blocks of a model really compute, and batches that are as large as they may be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from bures.models.loading import ChatModel
from bures.models.room import Room


def in_few_batches(model: ChatModel) -> ChatModel:
    """The same model in batches as large as the budget allows, whatever pads are in them; with a room of its own."""
    return replace(model, room=Room(a_pass=1 << 20))


@contextmanager
def counted(model: ChatModel) -> Iterator[list[int]]:
    """Inside, the positions that each block's attention is handed."""
    seen: list[int] = []

    def look(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        seen.append(hidden.shape[0] * hidden.shape[1])

    attentions: list[Any] = [block.self_attn for block in model.blocks]
    handles = [each.register_forward_pre_hook(look, with_kwargs=True) for each in attentions]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
