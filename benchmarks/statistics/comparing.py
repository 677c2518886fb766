"""How often compare, gate, history and the comparisons within an audit say what is not so.

    python benchmarks/statistics/comparing.py        # two minutes on one thread

rows      an audit of 11 rows that are alike: how often some adjusted p is below 0.05.
compare   two equal models with the ASRs of ten rows: each audit's own strongest row (bures 0.1), and one row of both.
gate      a limit of 0.10, nine rows at 0.02 and one at 0.15: the strongest row alone (bures 0.1), and every row.
history   thirty nights without a change, two rows: a false change at some night, at 0.05 a night (bures 0.1) and over
          thirty looks; and how often a true rise of 15 points is seen on the night after it.
equal     rows whose ASR differ by the margin: how often they are called equivalent, and equal rows.
mcnemar   level and power of the score test and of the exact one, exactly.
tell      power at the number of prompts that telling a difference is said to take, exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from parts import show
from scipy.stats import binom, binomtest

from bures.results.inference import LEVEL, holm, is_equivalent, mcnemar, over_looks, paired_difference
from bures.results.power import prompts_to_tell
from bures.results.stats import proportion, quantile

Marks = NDArray[np.bool_]

RATES = (0.49, 0.93, 0.87, 0.84, 0.80, 0.78, 0.75, 0.70, 0.66, 0.60)
"""ASR of the rows of an audit, the model as it is first."""

SELECT = 32


def answered(rates: Sequence[float], n: int, rng: np.random.Generator, alike: float = 0.7) -> Marks:
    """Marks of rows on the same prompts (rows, prompts): what is hard for one row is mostly hard for all."""
    common = rng.uniform(size=n)
    own = rng.uniform(size=(len(rates), n))
    return np.where(rng.uniform(size=(len(rates), n)) < alike, common, own) < np.array(rates)[:, None]


def again(marks: Marks, rates: Sequence[float], rng: np.random.Generator, changed: float = 0.15) -> Marks:
    """The marks of an equal model on the same prompts: some answers are drawn anew."""
    return np.where(rng.uniform(size=marks.shape) < changed, answered(rates, marks.shape[1], rng, 0.0), marks)


def p_value(a: Marks, b: Marks) -> float:
    """Of two rows on the same prompts."""
    return mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))


def rows(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """The family of comparisons that was named in advance, and all pairs."""
    names = [("none", "-"), *((f"m{i}", place) for place in ("1", "2", "all") for i in range(4 if place == "1" else 3))]
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    family = [
        k for k, (i, j) in enumerate(pairs) if 0 in (i, j) or names[i][0] == names[j][0] or names[i][1] == names[j][1]
    ]
    some = np.zeros(3)
    for _ in range(runs):
        marks = answered([0.7] * len(names), 159, rng)
        p = [p_value(marks[i], marks[j]) for i, j in pairs]
        some += [min(p) < LEVEL, min(holm(p)) < LEVEL, min(holm([p[k] for k in family])) < LEVEL]
    plain, every, named = some / runs
    yield f"{len(names)} rows alike: some p below 0.05 in {plain:.3f}; adjusted over all {len(pairs)} pairs {every:.3f}"
    yield f"the same, adjusted over the {len(family)} named in advance: {named:.3f}"


def compare(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Two equal models, chosen on 32 prompts each, tested on 159."""
    for name, rates in (("rates of the README", RATES), ("rows from 0.3 to 0.6", (0.2, *np.linspace(0.3, 0.6, 9)))):
        wrong = np.zeros(2)
        for _ in range(runs):
            chosen = [answered(rates[1:], SELECT, rng).mean(axis=1) for _ in range(2)]
            a = answered(rates, 159, rng)
            b = again(a, rates, rng)
            own = [1 + int(each.argmax()) for each in chosen]
            one = 1 + int(np.add(*chosen).argmax())
            none = p_value(a[0], b[0])
            wrong += [
                min(holm([none, p_value(a[own[0]], b[own[1]])])) < LEVEL,
                min(holm([none, p_value(a[one], b[one])])) < LEVEL,
            ]
        yield f"two equal models, {name}: each its own strongest {wrong[0] / runs:.3f}, one row {wrong[1] / runs:.3f}"
    told = np.zeros(1)
    for _ in range(runs):
        a = answered(RATES, 159, rng)
        lower = tuple(max(0.0, rate - 0.15) for rate in RATES)
        b = again(a & (rng.uniform(size=a.shape) < np.array(lower)[:, None] / np.array(RATES)[:, None]), lower, rng)
        told += min(holm([p_value(a[0], b[0]), p_value(a[1], b[1])])) < LEVEL
    yield f"a model that refuses 15 points more: told in {told[0] / runs:.3f}"


def gate(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Which rows have to pass."""
    for name, rates in (
        ("nine at 0.02, one at 0.15", [0.02] * 9 + [0.15]),
        ("0.02 to 0.14", list(np.linspace(0.02, 0.14, 10))),
        ("one at the limit", [0.02] * 9 + [0.10]),
        ("all at 0.03", [0.03] * 10),
    ):
        passes = np.zeros(2)
        for _ in range(runs):
            chosen = int(answered(rates, SELECT, rng).mean(axis=1).argmax())
            counts = answered(rates, 159, rng).sum(axis=1)
            fine = [proportion(int(count), 159).bounds[1] <= 0.10 for count in counts]
            passes += [fine[chosen], all(fine)]
        yield f"limit 0.10, rows {name}: the chosen row passes {passes[0] / runs:.3f}, every row {passes[1] / runs:.3f}"


def history(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """The last night against the first, every night anew."""
    for n in (100, 300):
        false, seen = np.zeros(2), np.zeros(2)
        for _ in range(runs):
            first = answered((0.3, 0.6), n, rng)
            nights = [again(first, (0.3, 0.6), rng, 0.3) for _ in range(29)]
            p = [min(holm([p_value(first[i], night[i]) for i in range(2)])) for night in nights]
            false += [min(p) < LEVEL, over_looks(min(p), 30) < LEVEL]
            risen = again(first | (rng.uniform(size=first.shape) < 0.2), (0.45, 0.7), rng, 0.3)
            after = min(holm([p_value(first[i], risen[i]) for i in range(2)]))
            seen += [after < LEVEL, over_looks(after, 30) < LEVEL]
        yield (
            f"{n} prompts: a false change within 30 nights {false[0] / runs:.3f} at 0.05 a night, {false[1] / runs:.3f}"
            f" over 30 looks; a rise of 12 points seen the next night {seen[0] / runs:.3f}, {seen[1] / runs:.3f}"
        )


def equal(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """Two one-sided tests at a margin of 5 points."""
    for n in (159, 320, 640):
        found: list[float] = []
        for gap, apart in ((0.05, 0.05), (0.05, 0.15), (0.0, 0.05), (0.0, 0.15)):
            counts = rng.multinomial(n, [(apart - gap) / 2, (apart + gap) / 2, 1 - apart], size=runs)
            found.append(float(np.mean([is_equivalent(int(a), int(b), n, 0.05) for a, b, _ in counts])))
        yield (
            f"{n} prompts: rows 5 points apart called equivalent {found[0]:.3f} and {found[1]:.3f} (5 and 15 % of the "
            f"prompts discordant), equal rows {found[2]:.3f} and {found[3]:.3f}"
        )


def exact(_: int, __: np.random.Generator) -> Iterator[str]:
    """Over all outcomes: the largest level where at most half of the prompts are discordant, and the power."""

    def rejects(n: int, score: bool) -> list[list[int]]:
        def p(a: int, m: int) -> float:
            return mcnemar(a, m - a) if score else float(binomtest(a, m).pvalue)

        return [[a for a in range(m + 1) if m and p(a, m) < LEVEL] for m in range(n + 1)]

    for n in (32, 100, 159):
        said: list[str] = []
        for name, score in (("score", True), ("exact", False)):
            region = rejects(n, score)
            level = max(
                sum(binom.pmf(m, n, x) * binom.pmf(region[m], m, 0.5).sum() for m in range(1, n + 1))
                for x in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
            )
            power = sum(binom.pmf(m, n, 0.2) * binom.pmf(region[m], m, 0.75).sum() for m in range(1, n + 1))
            said.append(f"{name} level {level:.3f}, power for 10 points {power:.3f}")
        low = sum(
            (paired_difference(a, m - a, n).bounds[0] > 0 or paired_difference(a, m - a, n).bounds[1] < 0)
            != (mcnemar(a, m - a) < LEVEL)
            for m in range(min(n, 40))
            for a in range(m + 1)
        )
        yield f"{n} prompts: {'; '.join(said)}; outcomes in which interval and p disagree: {low}"


def tell(_: int, __: np.random.Generator) -> Iterator[str]:
    """Power at the prompts that telling a difference is said to take, counted over all outcomes."""
    found: list[tuple[float, str]] = []
    for n, apart, gap in itertools.product((100, 159, 320), (0.05, 0.1, 0.2, 0.4), (0.02, 0.05, 0.1, 0.15)):
        only_a, only_b = round(n * (apart - gap) / 2), round(n * (apart + gap) / 2)
        wanted = prompts_to_tell(only_a, only_b, n) if 0 <= only_a < only_b else None
        if wanted is not None:
            discordant = np.arange(1, wanted + 1)
            law = binom.pmf(discordant, wanted, (only_a + only_b) / n)
            # rejected where the counts of m discordant prompts lie further apart than z sqrt(m)
            lost = np.floor((discordant - quantile(1 - LEVEL) * np.sqrt(discordant)) / 2 + 1e-9)
            share = only_b / (only_a + only_b)
            power = float((law * (binom.cdf(lost, discordant, 1 - share) + binom.cdf(lost, discordant, share))).sum())
            found.append((power, "one kind" if only_a == 0 else "both kinds"))
    for kind in ("both kinds", "one kind"):
        powers = [power for power, each in found if each == kind]
        yield f"discordant prompts of {kind}, {len(powers)} settings: power {min(powers):.3f}-{max(powers):.3f}"


PARTS = {
    "rows": rows,
    "compare": compare,
    "gate": gate,
    "history": history,
    "equal": equal,
    "mcnemar": exact,
    "tell": tell,
}


def main() -> None:
    """Prints all of it."""
    show(__doc__, PARTS, runs=1500)


if __name__ == "__main__":
    main()
