"""What every page and table of audits says of few prompts and short answers, in the same words."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bures.results.formatting import percent

SMALL_N = 100
"""Test prompts below which a page says that they are few."""

SHORT_ANSWERS = 64
"""Tokens below which a page says that answers were cut."""


def few_or_short(n: int, tokens: int) -> list[str]:
    """Cautions for `n` harmful test prompts, 1 at least, and answers of at most so many tokens."""
    said: list[str] = []
    if 0 < n < SMALL_N:
        said.append(f"Only {n} harmful prompt{'' if n == 1 else 's'}: around 50% the interval is {half_width(n)}.")
    if tokens < SHORT_ANSWERS:
        said.append(f"Answers were cut at {tokens} tokens; a refusal that comes later is not seen.")
    return said


def of_series(names: Iterable[str], n: int, tokens: int) -> list[str]:
    """The same of audits over time, with the names of their models, in order."""
    known = list(dict.fromkeys(names))
    several = f"The models have {len(known)} names, {known[0]} to {known[-1]}: they may be no versions of one model."
    return [*([several] if len(known) > 1 else []), *few_or_short(n, tokens)]


def half_width(n: int) -> str:
    """`±15 points`: how far an interval around 50% reaches over n prompts."""
    return f"±{percent(1.96 * math.sqrt(0.25 / n), 0, '')} points"
