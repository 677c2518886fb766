"""The layer scan, which computes what a candidate changes, against the same scan by whole forward passes.

    python benchmarks/scan.py MODEL [--scope last] [--prompts 32] [--rounds 3] [--stride 1] [--methods rfa,pca-ot]

Both run in one process and take turns block by block; whole passes go over all places and blocks, in the same batches.
Their scores have to be equal. Besides seconds, the positions that each computes are counted in every block, and held
against those that no scan can do without: tokens that a candidate moves or that see it, in the blocks behind its own.
`--stride 4` scans every fourth block, from block 1. Setting up, the way through the network and a candidate are timed
apart, and the seconds of the default scan (nine candidates a block) are put together from them.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from turns import Row, compared, keep, spent, write_page

from bures.data.prompts import load_prompts
from bures.jobs.parting import Parting
from bures.jobs.scanner import Scanner
from bures.jobs.splits import Sides
from bures.models.activations import collect
from bures.models.batching import Batches
from bures.models.fitting import FitData
from bures.models.loading import ChatModel, load_model
from bures.models.methods import FitOptions
from bures.models.probing import tensor_of
from bures.models.reentry import Entries
from bures.models.room import Room
from bures.models.shared_prefix import common
from bures.results.records import ScanScore, Scope

RANKS = (1, 2, 4, 8, 16)
METHODS = "rfa,rfa-mean,act,mean-act,pca-ot"
CANDIDATES = 4 + len(RANKS)
"""At a block, of the methods above."""

APART = {torch.float32: 1e-3}
APART_IN_HALF = 0.25
"""Largest difference of a score: sums over other numbers of rows round otherwise, in half precision by this much."""

Seconds = tuple[float, float]
"""By the clock and by the processor."""


@dataclass
class Side:
    """One of the two ways.

    Attributes:
        model: as it is entered.
        setup: seconds until a first candidate has been scored: what is tried and kept for all of them is in it.
        walk: seconds of each way to a block.
        blocks: seconds of the candidates of each block.
        counted: positions computed, summed over the blocks that did, without those of setting up.
        scores: of all blocks.
    """

    model: ChatModel
    setup: Seconds = (0.0, 0.0)
    walk: list[Seconds] = field(default_factory=list[Seconds])
    blocks: list[Seconds] = field(default_factory=list[Seconds])
    counted: int = 0
    scores: list[ScanScore] = field(default_factory=list[ScanScore])

    def whole_scan(self, blocks: Sequence[int]) -> Seconds:
        """Seconds of the default scan of all blocks, from those that were scanned."""
        n = len(self.model.blocks)

        def put_together(i: int) -> float:
            way = sum(each[i] for each in self.walk) * n / (blocks[-1] + 1)
            candidate = sum(each[i] for each in self.blocks) / len(self.scores)
            return self.setup[i] + way + n * CANDIDATES * candidate

        return put_together(0), put_together(1)


@dataclass(frozen=True)
class Job:
    """What is scanned."""

    fit: FitData
    select: Sides
    decides: Parting
    blocks: Sequence[int]
    methods: Sequence[str]
    scope: Scope

    def round(self, model: ChatModel, number: int) -> tuple[Side, Side]:
        """Both ways, in turns; which begins changes from block to block and round to round."""
        plain = replace(model, entries=Entries.nowhere(len(model.blocks)))
        sides = Side(model), Side(plain)
        scanners: dict[int, Scanner] = {}
        for i, side in enumerate(sides):

            def set_up(i: int = i, side: Side = side) -> None:
                scanners[i] = Scanner(side.model, self.fit, self.select, self.decides, induce=True)
                self._scan(scanners[i], self.blocks[0], Side(side.model), self.methods[:1])

            side.setup = spent(set_up)
        for place, block in enumerate(self.blocks):
            for i in (0, 1) if (place + number) % 2 == 0 else (1, 0):
                sides[i].walk.append(spent(lambda i=i, block=block: self._scan(scanners[i], block, Side(model), ())))
                with counting(sides[i]):
                    sides[i].blocks.append(spent(lambda i=i, block=block: self._scan(scanners[i], block, sides[i])))
            print(f"round {number + 1}, block {block}: {sides[0].blocks[-1][1]:.1f} s, "
                  f"whole {sides[1].blocks[-1][1]:.1f} s of the processor", flush=True)  # fmt: skip
        return sides

    def _scan(self, scanner: Scanner, block: int, side: Side, methods: Sequence[str] | None = None) -> None:
        """Scores a block's candidates; without methods, only goes there."""
        methods = self.methods if methods is None else methods
        found = scanner.block(block, methods=methods, ranks=RANKS, scopes=(self.scope,))
        side.scores += [score for score in found if isinstance(score, ScanScore)]

    def necessary(self, model: ChatModel, scores: Sequence[ScanScore]) -> int:
        """Positions of these candidates that no scan does without, summed over the blocks behind each one's own."""
        each = 0
        for side in (self.select.harmful, self.select.harmless, self.select.harmless):  # bypass, cost, induce
            rows = model.encode(list(side))
            shared = common(rows)
            each += len(rows) if self.scope == "last" else shared + sum(len(row) - shared for row in rows)
        return each * sum(len(model.blocks) - 1 - score.candidate.blocks[0] for score in scores)


def pads(model: ChatModel, select: Sides, room: Room) -> float:
    """The share of pads among the positions of the batches of the selection split."""
    rows = [model.encode(list(side)) for side in (select.harmful, select.harmless)]
    found = [batch for each in rows for batch in Batches(each, pad_id=model.pad_id, room=room)]
    return 1 - sum(int(each.attended.sum()) for each in found) / sum(each.ids.numel() for each in found)


@contextmanager
def counting(side: Side) -> Generator[None]:
    """Inside, the positions that attention computes are counted, in every block."""

    def count(_: Any, __: Any, output: Any) -> None:
        side.counted += tensor_of(output).shape[:-1].numel()

    with ExitStack() as stack:
        for block in range(len(side.model.blocks)):
            for module in side.model.parts.writers(block, "attention"):
                stack.callback(module.register_forward_hook(count).remove)
        yield


def apart(ours: Sequence[ScanScore], theirs: Sequence[ScanScore]) -> float:
    """Largest difference of a score of the same candidate."""
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a.candidate != b.candidate:
            raise SystemExit(f"{a.candidate.key} stands where {b.candidate.key} is expected: nothing is compared")
        pairs = [*zip(a.each, b.each, strict=True), *zip(a.induced, b.induced, strict=True)]
        worst = max([worst, *(abs(x - y) for x, y in [*pairs, (a.first_token_kl, b.first_token_kl)])])
    return worst


def prepared(model: ChatModel, given: Any) -> Job:
    """The fit and selection splits; which token stands for refusal changes no time."""
    harmful, harmless = load_prompts("advbench").take(given.fit), load_prompts("alpaca:fit").take(given.fit)
    decides = Parting((cast("Any", model.tokenizer)("I", add_special_tokens=False)["input_ids"][0],))
    fit = FitData(list(harmful), collect(model, harmful), collect(model, harmless), FitOptions())
    tried = (load_prompts(name).take(given.prompts) for name in ("harmbench:select", "alpaca:select"))
    blocks = range((given.stride - 1) // 2, len(model.blocks), given.stride)
    return Job(fit, Sides(*tried), decides, blocks, given.methods.split(","), given.scope)


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--scope", default="all", choices=("all", "last"))
    parser.add_argument("--prompts", type=int, default=32, help="per side")
    parser.add_argument("--fit", type=int, default=64, help="prompts per side to fit on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stride", type=int, default=1, help="scan every n-th block")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--note", default="", help="what else a reader has to know")
    given = parser.parse_args()
    model = load_model(given.model, dtype=given.dtype)
    job = prepared(model, given)
    rounds = [job.round(model, number) for number in range(given.rounds)]
    ours, theirs = ([side.whole_scan(job.blocks) for side in sides] for sides in zip(*rounds, strict=True))
    mine, whole = rounds[0]
    worst, limit = apart(mine.scores, whole.scores), APART.get(model.hf.dtype, APART_IN_HALF)
    if not worst <= limit:
        raise SystemExit(f"scores differ by {worst:.1e}: nothing is compared")
    n, tried = len(model.blocks), len(mine.scores)
    row: Row = {
        "ours": f"scan at scope `{given.scope}`, {n * CANDIDATES} candidates ({tried} of them timed)",
        "theirs": f"whole passes of {given.prompts} + {given.prompts} prompts",
        "equal": f"scores, within {worst:.0e}",
    }
    row |= compared(ours, theirs)
    row["positions"], row["necessary"] = (x / whole.counted for x in (mine.counted, job.necessary(model, mine.scores)))
    counted = f"Of whole passes' positions {row['positions']:.1%} were computed, {row['necessary']:.1%} are necessary"
    counted += f"; {pads(model, job.select, model.room):.1%} of those of whole passes are pads, and would be "
    counted += f"{pads(model, job.select, Room(a_pass=1 << 20)):.1%} in as few batches as there can be"
    said = ". ".join([f"{Path(given.model).stem} in {str(model.hf.dtype)[6:]}", counted, *filter(None, [given.note])])
    keep(f"scan_{given.scope}_{Path(given.model).stem}", [row], note=said)
    write_page()


if __name__ == "__main__":
    main()
