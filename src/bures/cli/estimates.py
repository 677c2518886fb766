"""How an estimate looks in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType

from bures.cli.fitted import Fitted, columns, words
from bures.jobs.estimate import Estimate
from bures.results.formatting import percent


def estimate_table(found: Estimate) -> RenderableType:
    """Passes and time of each stage, and what stands behind them."""
    names = ("stage", "token passes", "share %", "time")
    table = Fitted(f"{found.model}: what it will take (estimated, not measured)", columns(*names, left=("stage",)))
    whole = found.token_passes
    for name, passes, seconds in found.stages:
        table.add([name, f"{passes:,.0f}", percent(passes / max(1.0, whole), 0, ""), _time(seconds)])
    table.add(["together", f"{whole:,.0f}", "100", _time(found.seconds)])
    return Group(table, words(*_lines(found)))


def _lines(found: Estimate) -> list[str]:
    machine, shape = found.machine, found.shape
    sets = ", ".join(f"{name.replace('_', '-')} {n}" for name, n in found.prompts.items())
    low, high = found.job.spread
    tried = f"; about {found.job.trials:.0f} trials, {found.job.rows} rows" if found.job.rows else ""
    counted = "" if found.are_counted else " Tokens of prompts are guessed from their characters: no tokenizer was had."
    return [
        f"prompts: {sets}.{counted}",
        (
            f"candidates: {found.job.candidates} in the scan{tried}. What is chosen moves the passes "
            f"between {low:,.0f} and {high:,.0f}."
        ),
        found.memory.sentence(found.free, found.where) + ".",
        (
            f"{found.place}, measured now: {machine.flops / 1e9:,.0f} GFLOP/s, {machine.bandwidth / 1e9:,.1f} GB/s, "
            f"{machine.call * 1e3:.2f} ms a block and pass besides; {shape.blocks} blocks of width {shape.width}, "
            f"{shape.active / 1e6:,.0f} million weights a token."
        ),
        (
            "Answers are taken to use up their tokens, and one block to suffice: where answers end earlier it takes "
            "less. Loading, judging and fits are not in it; docs/scaling.md says how far it was off."
        ),
    ]


def _time(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
