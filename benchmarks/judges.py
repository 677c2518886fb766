"""Every offline judge against human labels: precision, recall, F1, accuracy, paired tests. What docs/judges.md shows.

    python benchmarks/judges.py              # about ten minutes on two cores; --no-lm leaves bures-lm out: one minute
    python benchmarks/judges.py --record     # writes the figures that stand under every table

On `refusal-labels` the trained judges are cross-validated by prompts, their options chosen inside every training part.
On `refusal-labels-extra`, from which nothing was learned or chosen, they are as packaged; its last lines leave out
answers that occur in `refusal-labels` too, with whatever prompt and label.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import bures
from bures.formatting import percent
from bures.judges import BURES, judge_by_name
from bures.judging.base import marks
from bures.judging.corpora import load_corpora
from bures.judging.evaluation import kappa, paired
from bures.judging.labelled import CHOOSING, REPORTING, Labelled, groups, load_labelled, plain_words
from bures.judging.measured import PACKAGED, JudgeError, figures_of, record
from bures.judging.training import CUTS, Gains, cross_validated, prepare, shortened

Said = dict[str, list[bool]]
TOPICS = {"bures": "overlap", "bures-lm": "gain"}


def main(gains: Gains | None = None) -> None:
    """Measures, prints and records; `gains` is the scorer of bures-lm, loaded where it is not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-lm", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if gains is None and not options.no_lm:
        from bures.judging.surprise import Scorer, load_scorer

        gains = Scorer(load_scorer(), {})
    data = prepare(load_corpora(), gains)
    trained = ["bures"] if gains is None else ["bures", "bures-lm"]
    labels, extra = load_labelled(CHOOSING), load_labelled(REPORTING)
    held_out = cross_validated(data)
    errors: list[JudgeError] = []
    print(
        "| set | answers | judge | n | precision % | recall % | F1 % | accuracy % |\n|---|---|---|---|---|---|---|---|"
    )
    for place, cut in enumerate(CUTS):
        said = {name: asked(name, labels, cut) for name in ("arditi", "gcg")}
        said |= {name: held_out[TOPICS[name]][place] for name in trained}
        errors += show(labels, said, CHOOSING, cut, trained)
    for cut in CUTS:
        errors += show(
            extra, {name: asked(name, extra, cut) for name in ("arditi", "gcg", *trained)}, REPORTING, cut, ()
        )
    known = {plain_words(row.answer) for row in labels}
    new = [row for row in extra if plain_words(row.answer) not in known]
    show(
        new,
        {name: asked(name, new, None) for name in ("arditi", "gcg", *trained)},
        f"{REPORTING}, new answers",
        None,
        (),
    )
    if options.record:
        whole = [error for error in errors if not error.how.startswith("cut")]
        print("\nrecorded in", record(whole, Path(bures.__file__).parent / PACKAGED))


def asked(name: str, rows: Sequence[Labelled], cut: int | None) -> list[bool]:
    """What a judge says of the answers, as it is."""
    judge = judge_by_name(name)
    prompts, answers = [row.prompt for row in rows], [shortened(row.answer, cut) for row in rows]
    return marks(judge, prompts, answers, harmful=True)[name]


def show(rows: Sequence[Labelled], said: Said, on: str, cut: int | None, trained: Sequence[str]) -> list[JudgeError]:
    """Prints one line a judge, and how the trained ones stand against the others on the same answers."""
    found: list[JudgeError] = []
    truth, prompts = [row.refused for row in rows], groups(rows)
    answers = "whole" if cut is None else f"first {cut} characters"
    for name, each in said.items():
        how = "cross-validated" if name in trained else "as it is"
        e = figures_of(name, rows, each, on, how if cut is None else f"cut to {cut} characters, {how}")
        figures = " | ".join(map(percent, (e.precision, e.recall, e.f1, e.accuracy)))
        print(f"| {on} | {answers} | {name} | {e.n} | {figures} |")
        found.append(e)
    for ours in (name for name in said if name.startswith(BURES.name)):
        for theirs in (name for name in said if name != ours):
            p, k = paired(truth, said[ours], said[theirs], prompts), kappa(said[ours], said[theirs], prompts)
            low, high = p.f1.interval or (p.f1.value, p.f1.value)
            print(
                f"<!-- right alone: {ours} {p.only_a}, {theirs} {p.only_b}, McNemar p = {p.p:.2g}; F1 "
                f"{100 * p.f1.value:+.1f} [{100 * low:.1f}, {100 * high:.1f}]; kappa {k.value if k else 1:.2f} -->"
            )
    return found


if __name__ == "__main__":
    main()
