"""What a choice gives away: the true ASR of the best candidate less that of the one that few prompts choose; no torch.

Simulated, because it depends on how far the candidates lie apart: true ASRs of most 0.4 to 0.9, as those of finished
audits (a beta law of 6 and 3), and prompts seven in ten of which are as hard for one candidate as for the others. Ties
are broken by something that says nothing of the ASR, as the KL is taken to be.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BEST = 3
"""Candidates that are tried again, at most."""

MOST_PROMPTS = 256
"""To choose on; no more are looked for."""

_RUNS, _AT_ONCE = 8000, 250
_LAW, _ALIKE = (6.0, 3.0), 0.7

Vector = NDArray[np.float64]


def regrets(most: int, n_again: int, candidates: int, *, runs: int = _RUNS, seed: int = 0) -> Vector:
    """Mean regret of a choice on 1, 2, ... `most` prompts; the best `BEST` are tried again on `n_again` more.

    Args:
        most: prompts to choose on, at most.
        n_again: further prompts; 0: nothing is tried again.
        candidates: among which is chosen.
        runs: simulated choices.
        seed: of them.

    Raises:
        ValueError: there is no prompt, no candidate, no run, or fewer than no further prompt.
    """
    if min(most, candidates, runs) < 1 or n_again < 0:
        raise ValueError(f"Expected prompts, candidates and runs, got {most}, {n_again}, {candidates}, {runs}.")
    rng, given = np.random.default_rng(seed), np.zeros(most)
    for start in range(0, runs, _AT_ONCE):
        size = min(_AT_ONCE, runs - start)
        rates = rng.beta(*_LAW, (size, candidates))
        first = _counts(rates, most, rng) + 0.5 * rng.uniform(size=(size, candidates, 1))
        again = _counts(rates, n_again, rng)[:, :, -1] if n_again else np.zeros((size, candidates))
        every = np.arange(size)
        for n in range(most):
            best = np.argpartition(-first[:, :, n], min(BEST, candidates) - 1, axis=1)[:, :BEST]
            places = np.take_along_axis(first[:, :, n] + again, best, axis=1).argmax(axis=1)
            given[n] += (rates.max(axis=1) - rates[every, best[every, places]]).sum()
    return given / runs


def prompts_for_regret(accepted: float, n_again: int, candidates: int) -> int | None:
    """The fewest prompts to choose on that give away no more than this share of the ASR, on the average.

    None where `MOST_PROMPTS` are too few.

    Raises:
        ValueError: the share is not between 0 and 1, or as `regrets`.
    """
    if not 0 < accepted < 1:
        raise ValueError(f"The regret must lie between 0 and 1, got {accepted}.")
    enough = regrets(MOST_PROMPTS, n_again, candidates) <= accepted
    return int(enough.argmax()) + 1 if enough.any() else None


def _counts(rates: Vector, n: int, rng: np.random.Generator) -> NDArray[Any]:
    """(runs, candidates, n): answers among the first prompts, one, two, ... of them."""
    shape = (*rates.shape, n)
    common = rng.random((len(rates), 1, n), dtype=np.float32)
    own, alike = rng.random(shape, dtype=np.float32), rng.random(shape, dtype=np.float32) < _ALIKE
    return (np.where(alike, common, own) < rates[:, :, None]).cumsum(axis=2, dtype=np.float32)
