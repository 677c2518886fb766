"""How many prompts a statement takes, before anything is run; no torch.

fewest_for_bound   below which nothing can be shown, whatever the model does
prompts_for_gate   at which a model that is well below a limit passes as often as wanted
prompts_for_increase  at which an increase is shown to keep a limit, where there is none
prompts_to_tell    at which a difference as large as one that was seen would be told
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
from scipy.stats import binom as _untyped_binom  # pyright: ignore

from bures.results.inference import LEVEL
from bures.results.stats import quantile

_binom = cast(Any, _untyped_binom)  # scipy ships no types

MOST_PROMPTS = 200_000
"""No more are looked for."""


def fewest_for_bound(limit: float, confidence: float = 0.95) -> int:
    """The smallest n at which 0 successes of n have a Wilson interval whose upper end is at most `limit`.

    The same n is the smallest at which `paired_difference` (of `bures.results.inference`) without a discordant prompt
    ends at most there.

    Raises:
        ValueError: the limit is not between 0 (exclusive) and 1, or the confidence is out of range.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"The limit must lie above 0 and be at most 1, got {limit}.")
    return max(1, math.ceil(quantile(confidence) ** 2 * (1 - limit) / limit - 1e-9))


def gate_power(n: int, limit: float, true: float) -> float:
    """Probability that a share that is truly `true` ends below the limit: the gate's rule, on n prompts.

    Raises:
        ValueError: n is below 1, or a share is not between 0 and 1.
    """
    return float(_binom.cdf(_most_for_pass(n, limit), n, true))


class Needed(NamedTuple):
    """How many prompts it takes to pass: at the first n at all, and at every n from the second on.

    One prompt more may turn a pass into a failure, because counts are whole, so the power rises in teeth.
    """

    fewest: int
    always: int


def prompts_for_gate(limit: float, true: float, power: float) -> Needed | None:
    """The numbers of prompts at which a share that is truly `true` passes with this probability.

    None where it takes more than `MOST_PROMPTS`.

    Raises:
        ValueError: not 0 <= true < limit <= 1, or the power is not between 0 and 1.
    """
    if not 0 <= true < limit <= 1:
        raise ValueError(f"The true share must lie below the limit; got {true} and {limit}.")
    if not 0 < power < 1:
        raise ValueError(f"The power must lie between 0 and 1, got {power}.")
    size = 64
    while size <= MOST_PROMPTS:
        passes = _binom.cdf(_most_for_pass(np.arange(1, size + 1), limit), np.arange(1, size + 1), true) >= power
        always = size - int(np.argmin(passes[::-1])) + 1 if not passes.all() else 1
        if always < 0.8 * size:  # the teeth are flat long before
            return Needed(int(np.argmax(passes)) + 1, always)
        size *= 2
    return None


def prompts_for_increase(limit: float, apart: float, power: float) -> int:
    """About how many prompts show that an increase keeps its limit, this often, where there is none.

    Args:
        limit: of the increase, as a share.
        apart: share of prompts that the two audits answer differently although the models are equal.
        power: how often it is to be shown.

    Raises:
        ValueError: a number is not between 0 and 1.
    """
    if not (0 < limit < 1 and 0 < apart <= 1 and 0 < power < 1):
        raise ValueError(f"The limit, the share and the power must lie between 0 and 1; got {limit}, {apart}, {power}.")
    reach = quantile(1 - LEVEL) + (quantile(2 * power - 1) if power > 0.5 else 0.0)
    return max(fewest_for_bound(limit), math.ceil(reach**2 * apart / limit**2))


def prompts_to_tell(only_a: int, only_b: int, n: int, power: float = 0.8) -> int | None:
    """Prompts at which McNemar's test would tell two shares apart that differ as these do (Connor 1987).

    None where they do not differ at all.
    """
    apart, difference = (only_a + only_b) / n, abs(only_b - only_a) / n
    if difference == 0:
        return None
    z, reach = quantile(1 - LEVEL), quantile(2 * power - 1)
    return math.ceil((z * math.sqrt(apart) + reach * math.sqrt(max(0.0, apart - difference**2))) ** 2 / difference**2)


def _most_for_pass(n: Any, limit: float) -> Any:
    """The largest number of successes among n whose Wilson interval ends at most at the limit; -1 where none does."""
    z = quantile(0.95)
    # the interval of s / n ends at the limit where s / n = limit - z sqrt(limit (1 - limit) / n): the score test
    return np.floor(n * limit - z * np.sqrt(n * limit * (1 - limit)) + 1e-9)
