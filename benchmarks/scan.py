"""The layer scan by re-entry at the block under test, against the same scan by whole forward passes.

    python benchmarks/scan.py MODEL [--prompts 32] [--rounds 3] [--stride 1]

Both run in one process and take turns block by block, so that whatever else the machine does meets both; setting up
(the original model's own pass) counts to each. Printed are the median seconds of a whole scan by the clock and by the
processor, their ratios, and the largest difference between any two scores. `--stride 4` scans every fourth block, from
block 1.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from bures.data.prompts import load_prompts
from bures.jobs.scanner import Scanner, find_parting
from bures.jobs.splits import Sides
from bures.judges.by_name import judge_by_name
from bures.models.activations import collect
from bures.models.fitting import FitData
from bures.models.generation import generate_ids
from bures.models.loading import load_model
from bures.models.methods import FitOptions
from bures.results.records import ScanScore

METHODS = ("rfa", "rfa-mean", "act", "mean-act", "pca-ot")
RANKS = (1, 2, 4, 8, 16)

T = TypeVar("T")


def main() -> None:
    """Prints the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=32, help="per side")
    parser.add_argument("--fit", type=int, default=64, help="prompts per side to fit on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stride", type=int, default=1, help="scan every n-th block")
    parser.add_argument("--dtype", default="auto")
    given = parser.parse_args()

    model = load_model(given.model, dtype=given.dtype)
    harmful, harmless = load_prompts("advbench").take(given.fit), load_prompts("alpaca:fit").take(given.fit)
    decides = find_parting(
        model, harmful, harmless, judge_by_name("arditi"), lambda p, most: generate_ids(model, p, max_new_tokens=most)
    )
    fit = FitData(list(harmful), collect(model, harmful), collect(model, harmless), FitOptions())
    select = Sides(
        load_prompts("harmbench:select").take(given.prompts), load_prompts("alpaca:select").take(given.prompts)
    )
    blocks = range((given.stride - 1) // 2, len(model.blocks), given.stride)
    totals: list[dict[bool, Spent]] = []
    worst, candidates = 0.0, 0
    for number in range(given.rounds):
        spent = {True: Spent(), False: Spent()}
        scanners = {
            reenter: spent[reenter].on(
                lambda reenter=reenter: Scanner(model, fit, select, decides, induce=True, reenter=reenter)
            )
            for reenter in spent
        }
        candidates = 0
        for block in blocks:
            found: dict[bool, list[ScanScore]] = {}
            for reenter in (True, False) if (block + number) % 2 == 0 else (False, True):
                found[reenter] = spent[reenter].on(
                    lambda scanner=scanners[reenter], block=block: [
                        score
                        for score in scanner.block(block, methods=METHODS, ranks=RANKS, scopes=("all",))
                        if isinstance(score, ScanScore)
                    ]
                )
            candidates += len(found[True])
            worst = max([worst, *map(_difference, found[True], found[False])])
            print(f"round {number + 1}, block {block}: {spent[True]}, whole {spent[False]}", flush=True)
        totals.append(spent)
    print(
        f"{given.model}: {len(blocks)} of {len(model.blocks)} blocks, {candidates} candidates, "
        f"{given.prompts} + {given.prompts} prompts, {model.hf.dtype}, {torch.get_num_threads()} threads"
    )
    for clock in ("wall", "processor"):
        entered, whole = (statistics.median(getattr(spent[r], clock) for spent in totals) for r in (True, False))
        print(f"{clock}: re-entry {entered:.1f} s, whole passes {whole:.1f} s, ratio {entered / whole:.3f}")
    print(f"largest difference of a score: {worst:.2e}")


@dataclass
class Spent:
    """Seconds of one of the two, so far."""

    wall: float = 0.0
    processor: float = 0.0

    def on(self, work: Callable[[], T]) -> T:
        """Does the work and counts its time."""
        wall, processor = time.perf_counter(), time.process_time()
        done = work()
        self.wall += time.perf_counter() - wall
        self.processor += time.process_time() - processor
        return done

    def __str__(self) -> str:
        return f"{self.wall:.1f} s"


def _difference(a: ScanScore, b: ScanScore) -> float:
    pairs = [*zip(a.each, b.each, strict=True), *zip(a.induced, b.induced, strict=True)]
    return max(abs(x - y) for x, y in [*pairs, (a.first_token_kl, b.first_token_kl)])


if __name__ == "__main__":
    main()
