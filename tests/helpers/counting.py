"""How many positions the blocks of a model really compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bures.models.loading import ChatModel


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
