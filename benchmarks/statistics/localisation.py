"""How often `bures scan` names a place where there is none, and how far its printed effects are right.

    python benchmarks/statistics/localisation.py            # a quarter of an hour on one thread
    python benchmarks/statistics/localisation.py --runs 40  # a quick look

level     the test against shuffled labels alone: ten draws of fresh fit prompts a scan, labels that say nothing.
null      labels that say nothing: both sides are drawn from one law. 20 blocks of a made-up residual stream (32 wide,
          each block adds to the last), a head that reads refusal from the stream at every block, 8 candidates a block,
          fitted by bures' own methods. Printed: how often the strongest map beats its 19 shuffled fits, how often it
          would have with the fits that chose it (the rule of bures 0.1), and how often a place is named in the end.
power     the same with a gap between the sides from block 8 on.
coverage  10 and 30 blocks that are alike, 8 candidates each: how often the printed interval of the strongest map's
          effect holds the true one, and how often "one block suffices" is said where no map removes half.
needed    one block removes 0.60, pairs 0.75: how often two blocks are said to be needed.
band      an effect that rises at block 12 of 30: how often the printed ranges hold its true ends.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from parts import show

from bures.errors import FitError
from bures.jobs.conclusion import CLEAR, HALF
from bures.jobs.localisation import Scanned, probability, together
from bures.models.methods import METHODS, FitOptions, fit_block
from bures.results.inference import SHUFFLES, beats_all
from bures.results.records import Candidate, ScanScore

Matrix = NDArray[np.float64]

WIDTH, BLOCKS, SELECT = 32, 20, 32
METHODS_TRIED = ("rfa", "rfa-mean", "act", "mean-act", "pca-ot")
RANKS = (1, 2, 4, 8)  # with the four others: 8 candidates a block


@dataclass(frozen=True)
class Stream:
    """A made-up residual stream: (blocks, prompts, width) of each set, and a head that reads refusal at every block.

    `scale` is that of a step in every direction, and `gap` parts harmful from harmless along the head, from block 8 on.
    """

    source: Matrix
    target: Matrix
    control: tuple[Matrix, Matrix]
    harmful: Matrix
    head: Matrix
    scale: Matrix
    gap: float
    offset: float = 0.5

    def log_odds(self, block: int, rows: Matrix) -> Matrix:
        """Of refusal, where the rows stand after a block."""
        return 4.0 * rows @ self.head[block] + self.offset


def stream(rng: np.random.Generator, n_fit: int, gap: float) -> Stream:
    """Draws one."""
    scale = np.exp(rng.normal(0, 0.7, WIDTH))
    head = rng.normal(size=(BLOCKS, WIDTH)).cumsum(axis=0)
    head /= np.linalg.norm(head * scale, axis=1, keepdims=True)
    law = head, scale, gap
    control = drawn(law, n_fit, 1, rng), drawn(law, n_fit, -1, rng)
    sides = drawn(law, n_fit, 1, rng), drawn(law, n_fit, -1, rng)
    return Stream(*sides, control, drawn(law, SELECT, 1, rng), *law)


def drawn(law: tuple[Matrix, Matrix, float], n: int, side: float, rng: np.random.Generator) -> Matrix:
    """Prompts of one side, where a stream has this head, scale and gap."""
    head, scale, gap = law
    steps = rng.normal(size=(BLOCKS, n, WIDTH)) * scale
    rows = steps.cumsum(axis=0) / np.sqrt(np.arange(1, BLOCKS + 1))[:, None, None]
    apart = np.where(np.arange(BLOCKS) >= 8, gap * side, 0.0)[:, None]
    along = head * scale**2
    return rows + (apart * along / np.linalg.norm(head * scale, axis=1, keepdims=True) ** 2)[:, None, :]


def fitted(
    there: Stream, block: int, method: str, ranks: tuple[int, ...], sides: tuple[Matrix, Matrix]
) -> dict[int, Matrix]:
    """Per rank, the log-odds of the harmful selection prompts under maps fitted on both sides."""
    source, target = (torch.tensor(side, dtype=torch.float32) for side in sides)
    rows = torch.tensor(there.harmful[block], dtype=torch.float32)
    usable = tuple(rank for rank in ranks if rank < min(len(source), len(target)))
    try:
        maps = fit_block(method, source, target, usable, FitOptions()) if usable else {}
    except FitError:
        return {}
    return {rank: there.log_odds(block, map_(rows).double().numpy()) for rank, map_ in maps.items()}


def scanned(there: Stream, harmful: Matrix) -> Scanned:
    """The scan of a stream. No candidate costs anything here."""
    scores: list[ScanScore] = []
    for block, method in itertools.product(range(BLOCKS), METHODS_TRIED):
        ranked = METHODS[method].ranked
        found = fitted(there, block, method, RANKS if ranked else (0,), (there.source[block], there.target[block]))
        for rank, each in found.items():
            candidate = Candidate(method, (block,), rank if ranked else None, "all")
            scores.append(ScanScore(candidate, float(each.mean()), 0.0, tuple(map(float, each))))
    return Scanned(tuple(map(float, harmful)), scores, 0.5)


def beats(there: Stream, found: Scanned, sides: tuple[Matrix, Matrix], rng: np.random.Generator) -> bool:
    """Whether the strongest map, fitted on both sides, does more than each of its fits on shuffled labels."""
    held = found.control()
    if held is None:
        return False
    rows, n = np.concatenate(sides), len(sides[0])
    orders = [np.arange(len(rows)), *(rng.permutation(len(rows)) for _ in range(SHUFFLES))]
    effects: list[float] = []
    for order in orders:
        each = fitted(there, held.blocks[0], held.method, (held.rank or 0,), (rows[order[:n]], rows[order[n:]]))
        if each:
            effects.append(1 - probability(each[held.rank or 0]).sum() / probability(found.original).sum())
    return len(effects) == len(orders) and beats_all(effects[0], effects[1:])


def level(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Conditional on a scan, either labelling of fresh prompts of one law is as likely as the other: 1 in 20."""
    for n_fit in (16, 24, 128):
        beaten = tried = 0
        while tried < 10 * runs:
            there = stream(rng, n_fit, 0.0)
            found = scanned(there, there.log_odds(BLOCKS - 1, there.harmful[-1]))
            block = found.control()
            place = 0 if block is None else block.blocks[0]
            law = there.head, there.scale, there.gap
            for _ in range(10):
                fresh = (drawn(law, n_fit, 1, rng)[place], drawn(law, n_fit, -1, rng)[place])
                beaten += beats(there, found, fresh, rng)
                tried += 1
        error = 2 * math.sqrt(beaten * (tried - beaten) / tried**3)
        yield f"{n_fit} + {n_fit} fit prompts: beats its shuffles in {beaten / tried:.4f} +- {error:.4f} of {tried}"


def null_and_power(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """The permutation test, and the whole sentence but for what geometry adds to it."""
    for gap, n_fit in itertools.product((0.0, 0.8), (16, 24, 128)):
        told = np.zeros(3)
        for _ in range(runs):
            there = stream(rng, n_fit, gap)
            found = scanned(there, there.log_odds(BLOCKS - 1, there.harmful[-1]))
            block = found.control()
            place = 0 if block is None else block.blocks[0]
            fresh = beats(there, found, (there.control[0][place], there.control[1][place]), rng)
            same = beats(there, found, (there.source[place], there.target[place]), rng)
            clear = found.peak().removed.bounds[0] >= CLEAR
            told += [fresh, same, fresh and clear]
        fresh, same, named = told / runs
        kind = "no difference" if gap == 0 else "a gap from block 8 on"
        yield (
            f"{kind}, {n_fit} + {n_fit} fit prompts: beats its shuffles {fresh:.3f} (with the fits that chose it "
            f"{same:.3f}), a place is named {named:.3f}"
        )


# Made-up scores ---------------------------------------------------------------------------------------------------


def mean_for(effect: float) -> float:
    """Mean of the moved log-odds at which a map removes this share of refusal."""
    rng = np.random.default_rng(1)
    before, spread = probability(rng.normal(2.5, 1.2, 200_000)).mean(), rng.normal(0, 2.5, 200_000)
    low, high = -12.0, 12.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if 1 - probability(middle + spread).mean() / before < effect else (middle, high)
    return low


def scores_of(
    means: dict[tuple[int, ...], float], candidates: int, n: int, rng: np.random.Generator
) -> list[ScanScore]:
    """Candidates at every place with a mean of the moved log-odds; prompts that are hard for one are for all."""
    hard, found = rng.normal(0, 1.5, n), list[ScanScore]()
    for blocks, mean in means.items():
        for rank, each in enumerate(mean + hard + rng.normal(0, 2.0, (candidates, n))):
            candidate = Candidate("pca-ot", blocks, rank, "all")
            found.append(ScanScore(candidate, float(each.mean()), 0.1, tuple(map(float, each))))
    return found


def before(n: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Log-odds of refusal in the original model."""
    return tuple(map(float, rng.normal(2.5, 1.2, n)))


def coverage(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Of the strongest map's effect, where all blocks are alike."""
    for effect, blocks, n in itertools.product((0.45, 0.5, 0.75, 0.9), (10, 30), (24, 32, 128)):
        mean, held, suffices, value, old = mean_for(effect), 0, 0, 0.0, 0.0
        for _ in range(runs):
            found = Scanned(before(n, rng), scores_of({(b,): mean for b in range(blocks)}, 8, n, rng), 0.5)
            peak = found.peak().removed
            held += peak.bounds[0] <= effect <= peak.bounds[1]
            suffices += peak.bounds[0] >= HALF
            value += peak.value - effect
            original = probability(found.original)
            old += max(1 - found.moved(b).sum() / original.sum() for b in range(blocks)) - effect
        yield (
            f"true effect {effect}, {blocks} blocks alike, n {n}: covered {held / runs:.3f}, bias {value / runs:+.3f} "
            f"(largest of the blocks {old / runs:+.3f}), one block suffices {suffices / runs:.3f}"
        )


def needed(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """One block removes some, pairs more."""
    for one, two, n in itertools.product((0.45, 0.6), (0.75,), (24, 32, 128)):
        said = np.zeros(3)
        for _ in range(runs):
            singles = {(b,): mean_for_cached(one if b == 4 else one - 0.2) for b in range(10)}
            found = Scanned(before(n, rng), scores_of(singles, 8, n, rng), 0.5)
            proposed = found.proposed_pairs()
            places = {c.key: c for half in proposed for c in half}
            (hard,) = [rng.normal(0, 1.5, n)]
            tried = []
            for c in places.values():
                each = mean_for_cached(two) + hard + rng.normal(0, 2.0, n)
                tried.append(ScanScore(c, float(each.mean()), 0.1, tuple(map(float, each))))
            pair = together(found.original, tried, proposed, 0.5)
            suffices = found.peak().removed.bounds[0] >= HALF
            both = not suffices and pair is not None and pair.removed.bounds[0] >= HALF
            short = found.none_suffices(HALF)
            said += [suffices, both and not short, both and short]
        one_, two_, must = said / runs
        yield (
            f"one block truly {one}, pairs {two}, n {n}: one suffices {one_:.3f}, two suffice and one is not shown to "
            f"{two_:.3f}, two are needed {must:.3f}"
        )


_MEANS: dict[float, float] = {}


def mean_for_cached(effect: float) -> float:
    """`mean_for`, once for every effect."""
    if effect not in _MEANS:
        _MEANS[effect] = mean_for(effect)
    return _MEANS[effect]


def band(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """A rise over three blocks to a plateau, and one with an early block of nearly half the peak."""
    profiles = {
        "sharp rise at 12": [0.05] * 12 + [0.6, 0.9] + [0.9] * 16,
        "rise over ten blocks": [0.05] * 8 + list(np.linspace(0.1, 0.9, 10)) + [0.9] * 12,
        "an early block at 0.40, peak 0.90": [0.05] * 6 + [0.4] + [0.05] * 9 + [0.9] + [0.6] * 13,
    }
    for (name, profile), n in itertools.product(profiles.items(), (32, 128)):
        truth = [next(i for i, e in enumerate(profile) if e >= part * max(profile)) for part in (0.5, 0.95)]
        held, exact, width = np.zeros(2), np.zeros(2), np.zeros(2)
        for _ in range(runs):
            means = {(b,): mean_for_cached(round(e, 3)) for b, e in enumerate(profile)}
            found = Scanned(before(n, rng), scores_of(means, 8, n, rng), 0.5).band()
            held += [each.low <= true <= each.high for each, true in zip(found, truth, strict=True)]
            exact += [each.first == true for each, true in zip(found, truth, strict=True)]
            width += [each.high - each.low + 1 for each in found]
        held, exact, width = held / runs, exact / runs, width / runs
        yield (
            f"{name}, n {n}: first held {held[0]:.3f} (right {exact[0]:.2f}, {width[0]:.1f} blocks wide), last held "
            f"{held[1]:.3f} (right {exact[1]:.2f}, {width[1]:.1f} blocks wide)"
        )


def main() -> None:
    """Prints all of it."""
    torch.set_num_threads(1)
    parts = {"level": level, "null": null_and_power, "coverage": coverage, "needed": needed, "band": band}
    show(__doc__, parts, runs=400)


if __name__ == "__main__":
    main()
