"""Types of options that several jobs have, with their bounds and sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from bures.results.names import METHOD_NAMES, Scope

T = TypeVar("T")

MOST_BLOCKS = 10_000
"""More than any model has: a typing error must not fill the memory."""


def _numbers(given: Any) -> Any:
    """Block numbers, with `8-12` for those from 8 to 12: a text (`3,8-12`) or a list (of numbers, as a rule)."""
    if not isinstance(given, (str, list, tuple)):
        return given
    found: list[Any] = []
    for part in given.split(",") if isinstance(given, str) else given:
        if not isinstance(part, str):
            found.append(part)
            continue
        read = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (0, -1) if read is None else (int(read[1]), int(read[2] or read[1]))
        if last < first:
            raise ValueError(f"cannot read {part!r} as block numbers; expected for example 10 or 8-12 or 3,8-12")
        if last > MOST_BLOCKS:
            raise ValueError(f"block {last} is of no model; expected at most {MOST_BLOCKS}")
        found += range(first, last + 1)
    return tuple(dict.fromkeys(found))


def _ordered(depth: tuple[float, float]) -> tuple[float, float]:
    low, high = depth
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"{low} to {high}; expected two shares with 0 <= low < high <= 1")
    return depth


def too_large(methods: Sequence[str], ranks: Sequence[int], n_fit: int) -> str | None:
    """What is wrong with ranks where a side has `n_fit` prompts to fit on; None: nothing."""
    from bures.models.methods import METHODS

    if max(ranks) < n_fit or not any(METHODS[name].ranked for name in methods):
        return None
    return (
        f"ranks: K = {max(ranks)} is larger than n - 1 = {n_fit - 1} fit prompts allow; lower --ranks or raise --n-fit"
    )


Methods = Annotated[
    tuple[str, ...],
    Field(description="Methods to try.", json_schema_extra={"choices": list(METHOD_NAMES), "group": "bures.methods"}),
]
Ranks = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, description="Ranks K to try of a ranked method.")
]
Scopes = Annotated[tuple[Scope, ...], Field(min_length=1, description="Tokens to move, each to try.")]
Blocks = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), BeforeValidator(_numbers)]
Depth = Annotated[tuple[float, float], AfterValidator(_ordered)]

OrNone = Annotated[T | None, BeforeValidator(lambda given: None if given == "none" else given)]
"""Of an option that is on by default and that None turns off: `none` says so in a file and on the command line."""
