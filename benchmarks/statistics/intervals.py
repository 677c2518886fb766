"""How often the printed intervals hold the true value.

    python benchmarks/statistics/intervals.py        # a minute on one thread

shares  Wilson's interval of a share; differences  Tango's of a paired one; area  Newcombe's of an AUROC;
earliest  the first of 30 blocks at which prompts are said to be told apart.
costs   a mean of skewed costs of prompts (KL, perplexity): by percentiles (bures 0.1), by bootstrap-t on logarithms,
        and as it is now, with the tail that the sample does not show.
removed a share of refusal that one map removes, the same way.
judge   F1 and kappa of a judge against labels.
ratio   a perplexity ratio, each answer against itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from parts import show
from scipy.stats import binom, norm

from bures.jobs.localisation import probability, removed
from bures.judges.agreement import kappa, quality
from bures.results.bootstrap import bootstrap_ratio_of_sums, exponential
from bures.results.inference import paired_difference
from bures.results.stats import auroc, proportion


def percentiles(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The percentile interval of a mean."""
    means = values[rng.integers(len(values), size=(1000, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def costs(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Heavy tails."""
    laws: dict[str, tuple[float, Callable[[int], np.ndarray]]] = {
        f"log-normal, sd {spread}": (math.exp(spread**2 / 2), partial(rng.lognormal, 0, spread))
        for spread in (0.5, 1.0, 1.5, 2.0)
    }
    laws["exponential"] = 1.0, partial(rng.exponential, 1.0)
    laws["gamma, shape 0.3"] = 0.3, partial(rng.gamma, 0.3, 1.0)
    laws["Pareto, exponent 3"] = 0.5, partial(rng.pareto, 3.0)
    for (name, (true, law)), n in itertools.product(laws.items(), (20, 32, 100)):
        held, wider = np.zeros(3), list[float]()
        for _ in range(runs):
            each = law(n)
            low, high = percentiles(each, rng)
            before, now = (bootstrap_ratio_of_sums(each, np.ones(n), skewed=skewed).bounds for skewed in (False, True))
            held += [lower <= true <= upper for lower, upper in ((low, high), before, now)]
            wider.append(now[1] / before[1])
        yield (
            f"{name}, n {n}: percentiles {held[0] / runs:.3f}, bootstrap-t on logarithms {held[1] / runs:.3f}, with "
            f"the tail {held[2] / runs:.3f} (upper end times {np.median(wider):.2f})"
        )


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


def shares(_: int, __: np.random.Generator) -> Iterator[str]:
    """Wilson's interval, counted over all outcomes: the mean and the least coverage over true shares."""
    for n in (24, 32, 100, 159):
        bounds = np.array([proportion(k, n).bounds for k in range(n + 1)])

        def misses(true: float, n: int = n, bounds: np.ndarray = bounds) -> tuple[float, float]:
            law = binom.pmf(np.arange(n + 1), n, true)
            return float(law[bounds[:, 0] > true].sum()), float(law[bounds[:, 1] < true].sum())

        inner, outer = np.linspace(0.03, 0.97, 471), np.linspace(0.001, 0.03, 59)
        middle, edge = (np.array([misses(float(p)) for p in among]) for among in (inner, outer))
        held, rare = 1 - middle.sum(axis=1), 1 - edge.sum(axis=1)
        yield (
            f"Wilson, n {n}, counted: shares of 0.03-0.97 covered {held.mean():.3f} (least {held.min():.3f}), an end "
            f"misses at most {middle.max():.3f}; below 0.03 covered {rare.mean():.3f} (least {rare.min():.3f}), the "
            f"upper end misses at most {edge[:, 1].max():.3f}"
        )


def differences(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Tango's interval of a paired difference."""
    for n in (24, 32, 100, 159):
        found: list[tuple[float, float, float]] = []
        for apart, gap in ((0.05, 0.0), (0.1, 0.05), (0.2, 0.0), (0.2, 0.1), (0.2, 0.19), (0.5, 0.0), (0.5, 0.3)):
            counts = rng.multinomial(n, [(apart - gap) / 2, (apart + gap) / 2, 1 - apart], size=runs)
            each, times = np.unique(counts[:, :2], axis=0, return_counts=True)
            bounds = np.array([paired_difference(int(a), int(b), n).bounds for a, b in each])
            below, above = (float(times[miss].sum()) / runs for miss in (gap < bounds[:, 0], gap > bounds[:, 1]))
            found.append((1 - below - above, below, above))
        held, low, high = np.array(found).T
        yield (
            f"Tango, n {n}: covered {held.min():.3f}-{held.max():.3f}, the lower end misses at most {low.max():.3f}, "
            f"the upper at most {high.max():.3f}"
        )


def area(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Newcombe's interval of an AUROC, normal scores of both sides, one spread or three times it."""
    for n, spread in itertools.product((16, 32, 128), (1.0, 3.0)):
        said: list[str] = []
        for true in (0.5, 0.7, 0.9, 0.95, 0.99):
            gap = float(norm.ppf(true)) * math.sqrt(1 + spread**2)
            bounds = np.array([auroc(rng.normal(gap, spread, n), rng.normal(0, 1, n)).bounds for _ in range(runs)])
            low, high = float((true < bounds[:, 0]).mean()), float((true > bounds[:, 1]).mean())
            said.append(f"{true}: {1 - low - high:.3f} (lower end above it {low:.3f})")
        yield f"AUROC, {n} + {n} prompts, spreads 1 and {spread:g}: covered {', '.join(said)}"


def earliest(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """How often some of 30 blocks of one AUROC has a lower end above 0.9: "told apart as early as"."""
    for n, shared in itertools.product((24, 32, 100), (0.0, 0.7)):
        said: list[str] = []
        for true in (0.85, 0.88, 0.9):
            told, gap = 0, float(norm.ppf(true)) * math.sqrt(2)
            for _ in range(runs // 2):
                common = rng.normal(0, math.sqrt(shared), (2, n))
                blocks = common + rng.normal(0, math.sqrt(1 - shared), (30, 2, n))
                blocks[:, 0] += gap
                values = (blocks[:, 0, :, None] > blocks[:, 1, None, :]).mean(axis=(1, 2))
                told += auroc(*blocks[int(values.argmax())]).bounds[0] >= 0.9
            said.append(f"{true}: {told / (runs // 2):.3f}")
        yield f"30 blocks of one AUROC, {n} + {n} prompts, {shared:g} of the noise in common, told: {', '.join(said)}"


PARTS = {
    "shares": shares,
    "differences": differences,
    "area": area,
    "earliest": earliest,
    "costs": costs,
    "removed": share_removed,
    "judge": judge,
    "ratio": ratio,
}


def main() -> None:
    """Prints all of it."""
    show(__doc__, PARTS, runs=800)


if __name__ == "__main__":
    main()
