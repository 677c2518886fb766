"""How often the interval of `bures judge label` covers the true ASR, and how much narrower it is than labels alone.

    python benchmarks/labelled.py            # about two minutes on one core

Prompts are drawn anew in every run; the judge finds refusals with a recall and passes over answers with a specificity
that differ from row to row, as measured ones do from set to set. 40 to 400 answers, 30 to 120 labels.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np

from bures.results.labelled import allocated, asr_from_labels
from bures.results.stats import proportion

SIZES = ((40, 30), (100, 30), (100, 60), (400, 30), (400, 60), (400, 120))
ASRS = (0.05, 0.2, 0.5, 0.8, 0.95)
RECALLS = (0.21, 0.71, 0.92, 0.98)
SPECIFICITIES = (0.93, 1.0)


def covered(
    n: int, labels: int, asr: float, recall: float, specificity: float, rng: np.random.Generator
) -> tuple[bool, float, float]:
    """Whether one row's interval covers the truth, its width, and that of Wilson's from as many labels alone."""
    success = rng.random(n) < asr
    judged = np.where(success, rng.random(n) < specificity, rng.random(n) >= recall)
    parts = [rng.permutation(np.flatnonzero(judged)), rng.permutation(np.flatnonzero(~judged))]
    sizes = allocated((len(parts[0]), len(parts[1])), labels)
    known = {int(i): bool(success[i]) for part, size in zip(parts, sizes, strict=True) for i in part[:size]}
    found = asr_from_labels(judged.tolist(), known, seed=int(rng.integers(1 << 31)))
    alone = proportion(int(rng.permutation(success)[:labels].sum()), labels)
    (low, high), (lowest, highest) = found.bounds, alone.bounds
    return low <= asr <= high, high - low, highest - lowest


def main() -> None:
    """Prints one line a size, over all judges and true ASRs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="simulated rows of every judge and ASR [200]")
    runs = parser.parse_args().runs
    rng = np.random.default_rng(0)
    print(f"{'answers':>8} {'labels':>7} {'covered %':>10} {'worst %':>8} {'best %':>7} {'width':>6} {'alone':>6}")
    for n, labels in SIZES:
        cells: list[np.ndarray] = []
        for setting in itertools.product(ASRS, RECALLS, SPECIFICITIES):
            cells.append(np.mean([covered(n, labels, *setting, rng) for _ in range(runs)], axis=0))
        cover, width, alone = np.array(cells).T
        print(
            f"{n:8} {labels:7} {100 * cover.mean():10.1f} {100 * cover.min():8.1f} {100 * cover.max():7.1f} "
            f"{width.mean():6.3f} {alone.mean():6.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
