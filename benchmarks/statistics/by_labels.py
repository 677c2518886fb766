"""How often compare, gate and history say what is not so when they decide by a person's labels.

    python benchmarks/statistics/by_labels.py        # four minutes on one thread

A judge finds refusals with a recall that differs between two models, and passes over answers with a specificity; people
label a sample that is drawn as `bures judge label` draws it, of the same prompts on both sides.

gate      a limit of 0.10 and a row truly at it, and one well below: how often it passes, by labels and by the judge.
compare   two equal models, two rows, the judge's recall in one 0.95 and in the other 0.6: how often a difference is
          said, by labels and by the judge; how often the interval covers it; and how often 25 points are told.
history   the same test at the level of thirty looks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from parts import show

from bures.results.inference import LEVEL, holm, mcnemar, over_looks
from bures.results.labelled import RowLabels, allocated, difference_from_labels
from bures.results.stats import proportion

LIMIT = 0.10
N = 159
KEYS = [f"{i:03d}" for i in range(N)]
Marks = NDArray[np.bool_]


def judged(success: Marks, recall: float, specificity: float, rng: np.random.Generator) -> Marks:
    """What the judge calls a success."""
    drawn = rng.random(len(success))
    return np.where(success, drawn < specificity, drawn >= recall)


def labelled(success: Marks, said: Marks, labels: int, turn: NDArray[np.float64]) -> RowLabels:
    """A row with so many labels; who is labelled is settled by the prompts' turns."""
    parts = [sorted(np.flatnonzero(said == part).tolist(), key=lambda i: turn[i]) for part in (True, False)]
    sizes = allocated((len(parts[0]), len(parts[1])), labels)
    chosen = [i for part, size in zip(parts, sizes, strict=True) for i in part[:size]]
    return RowLabels(
        {key: bool(mark) for key, mark in zip(KEYS, said, strict=True)}, {KEYS[i]: bool(success[i]) for i in chosen}
    )


def gate(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """One row at the limit, and below it."""
    for true in (LIMIT, 0.02):
        for recall, specificity in ((0.7, 0.93), (0.95, 0.97), (0.99, 0.8)):
            passes = np.zeros(4)
            for _ in range(runs):
                success = rng.random(N) < true
                said = judged(success, recall, specificity, rng)
                rows = [labelled(success, said, labels, rng.random(N)) for labels in (30, 60, 120)]
                by_judge = proportion(int(said.sum()), N)
                passes += [measured.bounds[1] <= LIMIT for measured in (*(row.asr for row in rows), by_judge)]
            told = ", ".join(f"{share:.3f}" for share in passes[:3] / runs)
            yield (
                f"limit 0.10, true ASR {true:.2f}, recall {recall}, specificity {specificity}: passes in {told} by 30, "
                f"60 and 120 labels, {passes[3] / runs:.3f} by the judge"
            )


def models(
    rates: tuple[float, float], recalls: tuple[float, float], alike: float, labels: int, rng: np.random.Generator
) -> tuple[RowLabels, RowLabels]:
    """One row of two models on the same prompts: what is hard for one is mostly hard for the other."""
    common, turn = rng.random(N), rng.random(N)
    rows: list[RowLabels] = []
    for rate, recall in zip(rates, recalls, strict=True):
        success = np.where(rng.random(N) < alike, common, rng.random(N)) < rate
        rows.append(labelled(success, judged(success, recall, 0.97, rng), labels, turn))
    return rows[0], rows[1]


def by_judge(a: RowLabels, b: RowLabels) -> float:
    """McNemar's p of the judge's marks."""
    only_a = sum(a.judged[key] and not b.judged[key] for key in KEYS)
    return mcnemar(only_a, sum(b.judged[key] and not a.judged[key] for key in KEYS))


def compare(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Two rows of two models."""
    for gap, alike, labels in ((0.0, 0.8, 30), (0.0, 0.8, 60), (0.0, 0.0, 60), (0.25, 0.8, 30), (0.25, 0.8, 60)):
        found = np.zeros(4)
        for _ in range(runs):
            pairs = [models((rate, rate + gap), (0.95, 0.6), alike, labels, rng) for rate in (0.1, 0.5)]
            told = [difference_from_labels(*pair) for pair in pairs]
            p, of_judge = [each.p for each in told], [by_judge(*pair) for pair in pairs]
            low, high = told[0].difference.bounds
            found += [
                min(holm(p)) < LEVEL,
                over_looks(min(holm(p)), 30) < LEVEL,
                min(holm(of_judge)) < LEVEL,
                low <= gap <= high,
            ]
        said, looks, judge, covered = found / runs
        yield (
            f"{100 * gap:.0f} points apart, {100 * alike:.0f} % of prompts alike, {labels} labels of each row: a "
            f"difference is said in {said:.3f} ({looks:.3f} over 30 looks), by the judge in {judge:.3f}; covered in "
            f"{covered:.3f}"
        )


def main() -> None:
    """Prints all of it."""
    show(__doc__, {"gate": gate, "compare": compare}, runs=400, seed=20261130)


if __name__ == "__main__":
    main()
