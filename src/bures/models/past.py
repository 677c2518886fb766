"""What transformers calls the keys and values of earlier tokens: `past_key_values`, and `cache` from 5.24 on.

The old name is dropped in 5.40. Code that comes with a checkpoint keeps the name that it was written with, so that a
model is asked for the name that it takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn

OLD, NEW = "past_key_values", "cache"


def past_for(module: nn.Module, held: Any) -> dict[str, Any]:
    """Keys and values as an argument of a pass.

    Args:
        module: the model whose pass it is.
        held: keys and values of earlier tokens; None: there are none, or the pass makes them.
    """
    return {_name(type(module)): held}


def past_in(named: Mapping[str, Any]) -> Any:
    """The keys and values among the arguments of a pass; None where there are none."""
    found = named.get(NEW)
    return named.get(OLD) if found is None else found


def past_of(returned: Any) -> Any:
    """The keys and values that a model returned; None where there are none."""
    found = getattr(returned, NEW, None)
    return getattr(returned, OLD, None) if found is None else found


@cache
def _name(kind: type[nn.Module]) -> str:
    return NEW if NEW in inspect.signature(kind.forward).parameters else OLD
