"""Keys and values that several passes begin with: each gets views of its own, and none changes another's."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from bures.models.architecture import text_config
from bures.models.loading import ChatModel
from bures.models.memory import cached_numbers
from bures.models.past import past_of


class Before(NamedTuple):
    """What a pass begins behind.

    Attributes:
        start: the first place that is computed.
        cache: keys and values of the places before it, for as many rows as the pass has; the pass adds to them.
    """

    start: int = 0
    cache: Any = None


NOTHING = Before()
"""A pass of all places."""


def cached_bytes(model: ChatModel, tokens: int) -> int:
    """Bytes of the keys and values of so many tokens, by the configuration."""
    return tokens * len(model.blocks) * cached_numbers(text_config(model.hf)) * model.hf.dtype.itemsize


def reach(model: ChatModel) -> float:
    """Places that the narrowest attention of the model sees."""
    config: Any = text_config(model.hf)
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((float(each) for each in windows if isinstance(each, int) and each > 0), default=float("inf"))


def cache_that_grows(returned: Any) -> Any:
    """The keys and values that a decoder returned; None where the model keeps a state that a pass changes in place."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    cache = past_of(returned)
    layers = list(getattr(cache, "layers", ()))
    return cache if layers and {type(layer) for layer in layers} <= {DynamicLayer, DynamicSlidingWindowLayer} else None


def view(cache: Any, *, rows: int | None = None, upto: int | None = None) -> Any:
    """The same keys and values for a pass that adds to them: it puts new tensors in the place of these, here alone.

    Args:
        cache: of `cache_that_grows`.
        rows: so many rows, where the cache has one.
        upto: only so many places from the first on; within the reach of the model.
    """
    made = copy.copy(cache)
    made.layers = [_view(layer, rows, upto) for layer in cache.layers]
    return made


def _view(layer: Any, rows: int | None, upto: int | None) -> Any:
    made = copy.copy(layer)
    if not made.is_initialized:
        return made
    for name in ("keys", "values"):
        found = getattr(layer, name)
        found = found if rows is None else found.expand(rows, -1, -1, -1)
        setattr(made, name, found if upto is None else found[:, :, :upto])
    if upto is not None and hasattr(made, "cumulative_length"):
        made.cumulative_length = upto
    return made


def spliced(before: Any, behind: Any, block: int) -> Any:
    """Keys and values of the blocks up to this one from `before`, of the others from `behind`; a view of both."""
    made = view(behind)
    made.layers = [*view(before).layers[: block + 1], *made.layers[block + 1 :]]
    return made
