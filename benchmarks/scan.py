"""The layer scan by re-entry at the block under test, against the same scan by whole forward passes.

    python benchmarks/scan.py MODEL [--prompts 32] [--rounds 3] [--stride 1]

Both run in one process, alternating block by block; printed are the median seconds of a whole scan, their ratio, and
the largest difference between any two scores. `--stride 4` scans every fourth block, from block 1.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from bures.activations import collect
from bures.candidates import FitData
from bures.judges import judge_by_name
from bures.methods import FitOptions
from bures.models import load_model
from bures.prompts import load_prompts
from bures.records import ScanScore
from bures.scanning import Scanner, refusal_tokens, scan_blocks

METHODS = ("rfa", "rfa-mean", "act", "mean-act", "pca-ot")
RANKS = (1, 2, 4, 8, 16)


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
    tokens = refusal_tokens(model, harmful, harmless, judge_by_name("arditi"))
    fit = FitData(list(harmful), collect(model, harmful), collect(model, harmless), FitOptions())
    select = load_prompts("harmbench:select").take(given.prompts), load_prompts("alpaca:select").take(given.prompts)
    blocks = range((given.stride - 1) // 2, len(model.blocks), given.stride)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    found: dict[bool, list[ScanScore]] = {}
    for number in range(given.rounds):
        for reenter in (True, False) if number % 2 == 0 else (False, True):
            began = time.perf_counter()
            scanner = Scanner(model, fit, *select, tokens, induce=True, reenter=reenter)
            found[reenter] = list(
                scan_blocks(scanner, blocks=blocks, methods=METHODS, ranks=RANKS, scopes=("all",), known={})
            )
            seconds[reenter].append(time.perf_counter() - began)
            print(f"round {number + 1}, {'re-entry' if reenter else 'whole'}: {seconds[reenter][-1]:.1f} s", flush=True)
    entered, whole = (statistics.median(seconds[reenter]) for reenter in (True, False))
    print(
        f"{given.model}: {len(blocks)} of {len(model.blocks)} blocks, {len(found[True])} candidates, "
        f"{given.prompts} + {given.prompts} prompts, {model.hf.dtype}, {torch.get_num_threads()} threads"
    )
    print(f"re-entry {entered:.1f} s, whole passes {whole:.1f} s, ratio {entered / whole:.3f}")
    print(f"largest difference of a score: {max(map(_difference, found[True], found[False])):.2e}")


def _difference(a: ScanScore, b: ScanScore) -> float:
    pairs = [*zip(a.each, b.each, strict=True), *zip(a.induced, b.induced, strict=True)]
    return max(abs(x - y) for x, y in [*pairs, (a.first_token_kl, b.first_token_kl)])


if __name__ == "__main__":
    main()
