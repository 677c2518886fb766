"""What an over-refusal repair gives and takes on XSTest: safe prompts refused before and after, and unsafe ones.

    python benchmarks/repair.py organism --xstest xstest_prompts.csv --depths 0.5 0.6 0.7 --strengths 1 2 --tokens 16

Half of the kinds of XSTest (safe ones with their unsafe contrasts) fit the map and choose block and strength; the other
is reported on, with 95 % Wilson intervals and McNemar's exact test. The map moves the last prompt token.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bures.data.prompts import load_prompts
from bures.judges.by_name import judge_by_name
from bures.models.activations import collect
from bures.models.generation import generate
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel, load_model
from bures.results.formatting import p_equals, share
from bures.results.inference import mcnemar
from bures.results.stats import proportion
from bures.transport import fit_repair

GROUPS = {
    "real_group_nons_discr": "discr",
    "nons_group_real_discr": "discr",
    "privacy_public": "privacy",
    "privacy_fictional": "privacy",
}
"""Safe kinds whose contrast has another name."""

MOST_LOST = 0.02
"""Share of the unsafe refusals of the choosing half that a choice may cost."""


@dataclass(frozen=True)
class Half:
    """Prompts of some kinds."""

    safe: list[str]
    unsafe: list[str]


def halves(path: Path, seed: int) -> tuple[Half, Half]:
    """The prompts of two halves of the kinds."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["prompt"], row["type"].removeprefix("contrast_"), row["label"]) for row in csv.DictReader(file)]
    kinds = sorted({GROUPS.get(kind, kind) for _, kind, _ in rows})
    random.Random(seed).shuffle(kinds)
    print(f"chosen on {', '.join(kinds[::2])}; reported on {', '.join(kinds[1::2])}")

    def half(of: Sequence[str]) -> Half:
        found = [(text, label) for text, kind, label in rows if GROUPS.get(kind, kind) in of]
        return Half(*([text for text, label in found if label == wanted] for wanted in ("safe", "unsafe")))

    return half(kinds[::2]), half(kinds[1::2])


def refused(model: ChatModel, prompts: list[str], by: Intervention, tokens: int) -> list[bool]:
    """Which prompts are refused under an intervention."""
    with by.applied(model):
        answers = generate(model, prompts, max_new_tokens=tokens)
    judge = judge_by_name("bures")
    return [judge.is_refusal(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]


def chosen(model: ChatModel, half: Half, given: argparse.Namespace) -> Intervention:
    """The repair with the fewest refusals of safe prompts that keeps those of unsafe ones."""
    marks = {side: refused(model, getattr(half, side), Intervention(), given.tokens) for side in ("safe", "unsafe")}
    harmful = [text for text, mark in zip(half.unsafe, marks["unsafe"], strict=True) if mark]
    harmful += list(load_prompts("advbench").texts[:128])
    blocks = sorted({round(at * (len(model.blocks) - 1)) for at in given.depths})
    safe, Z = collect(model, half.safe, blocks=blocks), collect(model, harmful, blocks=blocks)
    no = torch.tensor(marks["safe"])
    print(
        f"choosing half: {int(no.sum())} of {len(no)} safe, {sum(marks['unsafe'])} of {len(half.unsafe)} unsafe refused"
    )
    best = Intervention()
    fewest, least = int(no.sum()), sum(marks["unsafe"]) - MOST_LOST * len(half.unsafe)
    for block, strength in itertools.product(blocks, given.strengths):
        map_ = fit_repair(safe[block][no], safe[block][~no], Z[block], share=given.share, ridge=given.ridge)
        repair = Intervention({block: map_}, "last", strength)
        now = [sum(refused(model, side, repair, given.tokens)) for side in (half.safe, half.unsafe)]
        print(f"  block {block} strength {strength}: safe refused {now[0]}, unsafe refused {now[1]}", flush=True)
        if now[0] < fewest and now[1] >= least:
            best, fewest = repair, now[0]
    return best


def main() -> None:
    """Chooses on one half and reports on the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--xstest", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--ridge", type=float, default=0.1)
    parser.add_argument("--depths", type=float, nargs="+", default=[0.4, 0.5, 0.6, 0.7])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    first, second = halves(given.xstest, given.seed)
    model = load_model(given.model)
    repair = chosen(model, first, given)
    print(f"chosen: blocks {list(repair.blocks)}, strength {repair.strength}")
    for side in ("safe", "unsafe"):
        prompts = getattr(second, side)
        before, after = (refused(model, prompts, each, given.tokens) for each in (Intervention(), repair))
        lost = mcnemar(
            sum(a and not b for a, b in zip(before, after, strict=True)),
            sum(b and not a for a, b in zip(before, after, strict=True)),
        )
        shares = [share(proportion(sum(marks), len(marks))) for marks in (before, after)]
        print(f"{side}: refused before {shares[0]}, after {shares[1]} ({p_equals(lost)})")


if __name__ == "__main__":
    main()
