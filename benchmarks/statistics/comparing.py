"""How often compare, gate, history and the comparisons within an audit say what is not so.

    python benchmarks/statistics/comparing.py        # two minutes on one thread

rows      an audit of 11 rows that are alike: how often some adjusted p is below 0.05.
compare   two equal models with the ASRs of ten rows: each audit's own strongest row (bures 0.1), and one row of both.
gate      a limit of 0.10, nine rows at 0.02 and one at 0.15: the strongest row alone (bures 0.1), and every row.
history   thirty nights without a change, two rows: a false change at some night, at 0.05 a night (bures 0.1) and over
          thirty looks; and how often a true rise of 15 points is seen on the night after it.
equal     rows whose ASR differ by the margin: how often they are called equivalent, and equal rows.
mcnemar   level and power of the score test and of the exact one, exactly.
choice    regret of choosing among 12 trials on so many prompts, and of trying the best three again on more.
search    how far the recommended point of a search lies below the best one, and what is shown of it, likewise.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from bures.jobs.pareto import finalists, honest_asr, judge_trials
from bures.jobs.selection import choose, settle
from bures.jobs.trying_again import contenders
from bures.results.inference import LEVEL, holm, is_equivalent, mcnemar, over_looks, paired_difference
from bures.results.records import Candidate, Trial
from bures.results.regret import regrets
from bures.results.schema import SearchTrial
from bures.results.stats import Measurement, proportion

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


def choice(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """True ASR given away: as `bures plan` has it, and by the rules of an audit on marks of single prompts."""
    for candidates, n_again in itertools.product((12, 4), (0, 8, 16, 32, 96)):
        found = regrets(128, n_again, candidates)
        shown = ", ".join(f"{n}: {found[n - 1]:.4f}" for n in (16, 24, 32, 48, 64, 128))
        yield f"{candidates} candidates, tried again on {n_again}: {shown}"
    for n, n_again in ((24, 8), (24, 16), (32, 16), (32, 32), (32, 96)):
        given, tried = np.zeros((2, runs)), 0
        for run in range(runs):
            rates = rng.beta(6, 3, 12)
            marks = ["".join("01"[int(x)] for x in row) for row in ~answered(list(rates), n + n_again, rng)]
            costs = rng.permutation(12)
            trials = [
                Trial(
                    Candidate("rfa", (i,), None, "all"),
                    proportion(each[:n].count("0"), n),
                    1.0,
                    Measurement(float(costs[i]), n),
                    refused=each[:n],
                )
                for i, each in enumerate(marks)
            ]
            best = {t.candidate for t in contenders(trials, 1.1)}
            tried += len(best) if len(best) > 1 else 0
            again = [replace(t, again=m[n:]) if t.candidate in best else t for t, m in zip(trials, marks, strict=True)]
            for k, chosen in enumerate((choose(trials, 1.1), settle(again, 1.1))):
                given[k, run] = 0.0 if chosen is None else rates.max() - rates[chosen.candidate.blocks[0]]
        error = 2 * given.std(axis=1) / math.sqrt(runs)
        yield (
            f"an audit's rules, {n} prompts: {given[0].mean():.4f} +- {error[0]:.4f}, {tried / runs:.2f} of 12 again "
            f"on {n_again} more: {given[1].mean():.4f} +- {error[1]:.4f}"
        )


def recommended(runs: int, rng: np.random.Generator) -> Iterator[str]:
    """A search's recommended point among 60 long trials: true ASR below the best trial's, and what is shown of it."""
    for n, n_again in ((24, 16), (32, 16), (32, 32), (64, 16)):
        short, over, kls, counts = np.zeros((2, runs)), np.zeros((4, runs)), np.zeros((2, runs)), 0
        for run in range(runs):
            kl = rng.lognormal(-2.5, 1.0, 60)
            rates = np.clip(0.75 + 0.12 * (np.log(kl) + 2.5) + rng.normal(0, 0.12, 60), 0.02, 0.99)
            marks = ["".join("01"[int(x)] for x in row) for row in ~answered(list(rates), n + n_again, rng)]
            trials = [_point(i, each[:n], float(kl[i])) for i, each in enumerate(marks)]
            finals = {t.number for t in finalists(trials)}
            counts += len(finals)
            again = [t.model_copy(update={"again": marks[t.number][n:]}) if t.number in finals else t for t in trials]
            honest = honest_asr(trials)
            for k, group in enumerate((trials, again)):
                _, found = judge_trials(group)
                if found is None or found.asr is None or honest is None:
                    continue
                true, everything = rates[found.number], found.refused + found.again
                short[k, run] = rates.max() - true
                over[k, run] = everything.count("0") / len(everything) - true
                kls[k, run] = kl[found.number]
                over[2, run] = honest.value - true
                over[3, run] = found.again.count("0") / max(1, len(found.again)) - true
        said = [f"{x.mean():+.3f} +- {2 * x.std() / math.sqrt(runs):.3f}" for x in (*short, *over)]
        yield (
            f"a search of 60, {n} prompts: {said[0]} below the best, shown {said[2]} over the truth, KL "
            f"{kls[0].mean():.3f}; {counts / runs:.1f} again on {n_again}: {said[1]}, all prompts {said[3]} over, the "
            f"further ones {said[5]}, the halves {said[4]}, KL {kls[1].mean():.3f}"
        )


def _point(number: int, refused: str, kl: float) -> SearchTrial:
    return SearchTrial(
        number=number,
        candidate=str(number),
        options={},
        rung="long",
        refusal_log_odds=0.0,
        first_token_kl=0.0,
        asr=proportion(refused.count("0"), len(refused)),
        perplexity_ratio=1.0,
        kl=Measurement(kl, len(refused)),
        refused=refused,
    )


PARTS = {
    "rows": rows,
    "compare": compare,
    "gate": gate,
    "history": history,
    "equal": equal,
    "mcnemar": exact,
    "choice": choice,
    "search": recommended,
}


def main() -> None:
    """Prints all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1500)
    parser.add_argument("--only", choices=sorted(PARTS))
    given = parser.parse_args()
    for name, part in PARTS.items():
        if given.only in (None, name):
            for line in part(given.runs, np.random.default_rng(20261125)):
                print(f"{name}: {line}", flush=True)


if __name__ == "__main__":
    main()
