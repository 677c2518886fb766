"""How often the printed intervals hold the true value.

    python benchmarks/statistics/intervals.py        # a minute on one thread

costs   a mean of log-normal costs of prompts (KL, perplexity), by percentiles (bures 0.1) and as it is now.
removed a share of refusal that one map removes, the same way.
judge   F1 and kappa of a judge against labels.
ratio   a perplexity ratio, each answer against itself.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator

import numpy as np

from bures.jobs.localisation import probability, removed
from bures.judges.agreement import kappa, quality
from bures.results.bootstrap import bootstrap_ratio_of_sums, exponential


def percentiles(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The percentile interval of a mean."""
    means = values[rng.integers(len(values), size=(1000, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def costs(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Heavy tails."""
    for spread, n in itertools.product((0.5, 1.0, 1.5, 2.0), (20, 32, 100)):
        true, held = math.exp(spread**2 / 2), np.zeros(2)
        for _ in range(runs):
            each = rng.lognormal(0, spread, n)
            low, high = percentiles(each, rng)
            now = bootstrap_ratio_of_sums(each, np.ones(n)).bounds
            held += [low <= true <= high, now[0] <= true <= now[1]]
        yield f"log-normal, sd {spread}, n {n}: percentiles {held[0] / runs:.3f}, now {held[1] / runs:.3f}"


def share_removed(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Of one map that nobody chose."""
    wide = np.random.default_rng(0)
    for mean, n in itertools.product((2.0, 0.0, -2.0), (24, 32, 128)):
        before = probability(wide.normal(2.5, 1.2, 200_000)).mean()
        true = 1 - probability(mean + wide.normal(0, 2.5, 200_000)).mean() / before
        held = 0
        for _ in range(runs):
            original = tuple(map(float, rng.normal(2.5, 1.2, n)))
            low, high = removed(original, probability(mean + rng.normal(0, 2.5, n))).bounds
            held += low <= true <= high
        yield f"a map that removes {true:.2f}, n {n}: covered {held / runs:.3f}"


def judge(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """A judge of this recall and precision, by as many labels."""
    for recall, n in itertools.product((0.8, 0.95, 0.98, 1.0), (40, 80, 159)):
        held = np.zeros(2)
        # cells: both, missed, extra, neither
        cells = np.array([0.5 * recall, 0.5 * (1 - recall), 0.5 * (1 - recall) / 2, 0.0])
        cells[3] = 1 - cells.sum()
        f1_true = 2 * cells[0] / (2 * cells[0] + cells[1] + cells[2])
        chance = (cells[0] + cells[1]) * (cells[0] + cells[2]) + (cells[3] + cells[2]) * (cells[3] + cells[1])
        kappa_true = (cells[0] + cells[3] - chance) / (1 - chance)
        for _ in range(runs):
            drawn = rng.choice(4, size=n, p=cells)
            labels, said = (drawn < 2).tolist(), ((drawn == 0) | (drawn == 2)).tolist()
            f1 = quality(labels, said, range(n)).f1
            agreed = kappa(labels, said, range(n))
            for i, (found, true) in enumerate(((f1, f1_true), (agreed, kappa_true))):
                held[i] += found is None or found.bounds[0] - 1e-9 <= true <= found.bounds[1] + 1e-9
        yield f"recall {recall}, n {n}: F1 covered {held[0] / runs:.3f}, kappa {held[1] / runs:.3f}"


def ratio(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Answers differ far more from each other than from themselves."""
    for n in (32, 100):
        tokens = rng.integers(20, 64, size=n).astype(float)
        held = 0
        for _ in range(runs):
            risen = rng.normal(0.05, 0.1, n) + rng.exponential(0.05, n)
            low, high = exponential(bootstrap_ratio_of_sums(risen * tokens, tokens)).bounds
            held += low <= math.exp(0.1) <= high
        yield f"perplexity ratio of 1.105, n {n}: covered {held / runs:.3f}"


PARTS = {"costs": costs, "removed": share_removed, "judge": judge, "ratio": ratio}


def main() -> None:
    """Prints all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=800)
    parser.add_argument("--only", choices=sorted(PARTS))
    given = parser.parse_args()
    for name, part in PARTS.items():
        if given.only in (None, name):
            for line in part(given.runs, np.random.default_rng(20261125)):
                print(f"{name}: {line}", flush=True)


if __name__ == "__main__":
    main()
