"""How often the interval of the share of refusal that a map removes covers the truth, where a few prompts keep theirs.

Every prompt refuses with a probability of its own, and a map leaves nearly nothing of it but in some prompts, in which
it leaves at least half. The interval of such a ratio is that of `bures.jobs.localisation.removed`.

    python benchmarks/statistics/removed.py
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from bures.jobs.localisation import removed

Vector = NDArray[np.float64]


def drawn(rng: np.random.Generator, n: int, rare: float, rest: float) -> tuple[Vector, Vector]:
    """Refusal probabilities of n prompts, and what is left of them: a share of prompts keeps at least half."""
    before = np.clip(rng.beta(4.0, 1.5, n), 1e-6, 1 - 1e-6)
    left = np.where(rng.random(n) < rare, rng.uniform(0.5, 1.0, n), rng.beta(0.4, rest, n))
    return before, before * left


def main() -> None:
    """Prints one line a setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    rng = np.random.default_rng(2)
    print("prompts  rare  truth  coverage  width  truth below  truth above")
    for n in (12, 24, 32, 128):
        for rare in (0.03, 0.1, 0.25, 0.5):
            for rest in (8.0, 30.0):
                before, left = drawn(rng, 400_000, rare, rest)
                truth = 1 - float(left.sum() / before.sum())
                ends: list[tuple[float, float]] = []
                for _ in range(runs):
                    before, left = drawn(rng, n, rare, rest)
                    ends.append(removed([*np.log(before / (1 - before))], left).bounds)
                low, high = np.array(ends).T
                below, above = float(np.mean(truth < low)), float(np.mean(truth > high))
                width = float(np.mean(high - low))
                print(
                    f"{n:7d} {rare:5.2f} {truth:6.3f} {1 - below - above:9.3f} {width:6.3f} {below:12.3f} {above:12.3f}"
                )


if __name__ == "__main__":
    main()
