"""What choosing on few prompts gives away, and what trying the best again saves.

    python benchmarks/statistics/choosing.py        # two minutes on one thread

choice    regret of choosing among 12 trials on so many prompts, and of trying the best three again on more.
search    how far the recommended point of a search lies below the best one, and what is shown of it, likewise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from comparing import answered
from parts import show

from bures.jobs.pareto import finalists, honest_asr, judge_trials
from bures.jobs.selection import choose, settle
from bures.jobs.trying_again import contenders
from bures.results.records import Candidate, Trial
from bures.results.regret import regrets
from bures.results.schema import SearchTrial
from bures.results.stats import Measurement, proportion


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


PARTS = {"choice": choice, "search": recommended}


def main() -> None:
    """Prints all of it."""
    show(__doc__, PARTS, runs=1500)


if __name__ == "__main__":
    main()
