"""How the results of `bures probe` look in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType

from bures.cli.fitted import Fitted, columns, words
from bures.report.probe_words import heading, legend
from bures.results.formatting import as_given, estimate, number, share
from bures.results.probing import RATES, ProbeResult, ProbeRow

_HEAD = ("detector", "position", "block", "selection")


def probe_table(result: ProbeResult) -> RenderableType:
    """One table a pair of sets, the baselines at the foot of each."""
    if not result.detectors:
        return words(*result.notes)
    keys = list(result.detectors[0].told)
    return Group(*(_table(result, key) for key in keys), words(*legend(result)))


def _table(result: ProbeResult, key: str) -> Fitted:
    rates = [(rate, side) for rate in RATES[::-1] for side in ("TPR", "FPR")]
    names = [*_HEAD, "AUROC [95 %]", "over n-grams", *(f"{side} % at {as_given(rate)}" for rate, side in rates)]
    spare = (*(name for name in names[::-1] if name.startswith("FPR")), "selection")
    table = Fitted(heading(result, key), columns(*names, left=("detector",), wraps=("detector",), spare=spare))
    for row in result.detectors:
        if key in row.told:
            table.add(_cells(result, row, key))
    return table


def _cells(result: ProbeResult, row: ProbeRow, key: str) -> list[str]:
    chosen, found = "*" if row.key == result.chosen else "", row.told[key]
    cells = [f"{chosen}{row.detector}", row.position or "-", "-" if row.block is None else str(row.block)]
    cells += [number(row.selection), estimate(found.auroc), estimate(found.over_words, signed=True)]
    for rate in RATES[::-1]:
        cutoff = next((each for each in found.cutoffs if each.rate == rate), None)
        cells += [
            share(None if cutoff is None else cutoff.flagged_harmful, 0, ""),
            share(None if cutoff is None else cutoff.flagged_harmless, 0, ""),
        ]
    return cells
