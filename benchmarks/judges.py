"""Every offline judge against human labels: precision, recall, F1, accuracy, paired tests. What docs/judges.md shows.

    python benchmarks/judges.py              # about ten minutes on two cores; --no-lm leaves bures-lm out: one minute
    python benchmarks/judges.py --record     # writes the figures that stand under every table

On `refusal-labels` the trained judges are cross-validated by prompts. On XSTest's three models `bures` is trained and
its prior chosen without the model that it is held against; partial refusals are left out there.
On `refusal-labels-extra`, from which nothing was learned or chosen, they are as packaged; its last lines leave out
answers that occur in `refusal-labels` too, with whatever prompt and label.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

import bures
from bures.data.assets import fetch
from bures.judges.agreement import kappa, paired
from bures.judges.base import marks
from bures.judges.by_name import BURES, judge_by_name
from bures.judges.coherence import incoherent
from bures.judges.human_labels import (
    CHOOSING,
    REPORTING,
    XSTEST,
    XSTEST_MODELS,
    Labelled,
    decided,
    groups,
    load_labelled,
    plain_words,
)
from bures.judges.known_error import PACKAGED, JudgeError, figures_of, record
from bures.judges.surprise import SCORER
from bures.judges.trained import LearnedJudge
from bures.judges.training import CUTS, Data, Gains, cross_validated, left_out, prepare, shortened
from bures.judges.training_corpora import Corpora, load_corpora
from bures.results.formatting import share
from bures.results.stats import proportion

Said = dict[str, list[bool]]
TOPICS = {"bures": "overlap", "bures-lm": "gain"}


def main(gains: Gains | None = None) -> None:
    """Measures, prints and records; `gains` is the scorer of bures-lm, loaded where it is not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-lm", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if gains is None and not options.no_lm:
        from bures.judges.surprise import Scorer, load_scorer

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
    errors += models(data)
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
    repeated()
    coherence(data.corpora)
    if options.record:
        whole = [error for error in errors if not error.how.startswith("cut")]
        print("\nrecorded in", record(whole, Path(bures.__file__).parent / PACKAGED))


def asked(name: str, rows: Sequence[Labelled], cut: int | None) -> list[bool]:
    """What a judge says of the answers, as it is."""
    judge = judge_by_name(name)
    prompts, answers = [row.prompt for row in rows], [shortened(row.answer, cut) for row in rows]
    return [mark is True for mark in marks(judge, prompts, answers, harmful=True, coherent=False)[name]]


def show(
    rows: Sequence[Labelled],
    said: Said,
    on: str,
    cut: int | None,
    trained: Sequence[str],
    how_trained: str = "cross-validated",
) -> list[JudgeError]:
    """Prints one line a judge, and how the trained ones stand against the others on the same answers."""
    found: list[JudgeError] = []
    truth, prompts = [row.refused for row in rows], groups(rows)
    answers = "whole" if cut is None else f"first {cut} characters"
    for name, each in said.items():
        how = how_trained if name in trained else "as it is"
        e = figures_of(name, rows, each, on, how if cut is None else f"cut to {cut} characters, {how}")
        figures = " | ".join(share(figure, unit="") for figure in (e.precision, e.recall, e.f1, e.accuracy))
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


def models(data: Data) -> list[JudgeError]:
    """The lists, and `bures` trained without the model, on the answers of each of XSTest's models."""
    errors: list[JudgeError] = []
    for model in XSTEST_MODELS:
        rows = decided(load_labelled(f"{XSTEST}-{model}"))
        judge = LearnedJudge("bures")
        vars(judge)["weights"] = left_out(data, model)
        for cut in CUTS:
            said = {name: asked(name, rows, cut) for name in ("arditi", "gcg")}
            prompts, answers = [row.prompt for row in rows], [shortened(row.answer, cut) for row in rows]
            said["bures"] = [mark is True for mark in marks(judge, prompts, answers, harmful=True)["bures"]]
            errors += show(rows, said, f"{XSTEST}-{model}", cut, ("bures",), "model left out")
        partial = [row for row in load_labelled(f"{XSTEST}-{model}") if row.partial]
        verdicts = Counter(judge.verdict(row.prompt, row.answer) for row in partial)
        print(f"<!-- {model}, {len(partial)} partial refusals: {dict(verdicts)} -->")
    return errors


def repeated() -> None:
    """Prints how many of the labelled refusals the packaged judge finds where they repeat themselves."""
    rows = [row for row in decided(load_labelled(XSTEST)) if row.refused]
    turn = "<|im_end|>\n<|im_start|>user\nGo on.<|im_end|>\n<|im_start|>assistant\n"
    print("\n| times | with a space % | with turn marks % |\n|---|---|---|")
    for times in (1, 2, 6, 30):
        said = [
            sum(BURES.is_refusal(row.prompt, between.join([row.answer.strip()] * times)) for row in rows)
            for between in (" ", turn)
        ]
        print(f"| {times} | " + " | ".join(share(proportion(found, len(rows)), unit="") for found in said) + " |")


def coherence(corpora: Corpora, n: int = 200) -> None:
    """Prints how often the rules of `bures.judges.coherence` call answers incoherent that are, and that are not."""
    tokenizer = AutoTokenizer.from_pretrained(fetch(SCORER).parent, gguf_file=fetch(SCORER).name)
    generator = np.random.default_rng(0)
    answers = [row.answer for row in corpora.own]
    sorts = {
        "answers to ordinary and labelled prompts": answers,
        "the same, a phrase of 2 to 12 words of them again and again": [loop(each, generator) for each in answers[:n]],
        "tokens drawn at random": [tokenizer.decode(generator.integers(len(tokenizer), size=64)) for _ in range(n)],
        "the words of an answer in random order": [" ".join(generator.permutation(each.split())) for each in answers],
    }
    print("\n| text | n | whole % | first 250 characters % | first 80 % |\n|---|---|---|---|---|")
    for name, texts in sorts.items():
        found = [proportion(sum(incoherent(shortened(t, cut)) for t in texts), len(texts)) for cut in CUTS]
        print(f"| {name} | {len(texts)} | {' | '.join(share(figure, unit='') for figure in found)} |")


def loop(answer: str, generator: np.random.Generator) -> str:
    """The beginning of an answer, then a phrase of it until 64 words are there."""
    words = answer.split()
    start = min(int(generator.integers(0, 24)), max(0, len(words) - 12))
    phrase = words[start : start + int(generator.integers(2, 13))]
    return " ".join([*words[:start], *itertools.islice(itertools.cycle(phrase), 64 - start)])


if __name__ == "__main__":
    main()
