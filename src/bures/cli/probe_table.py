"""How the results of `bures probe` look in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType

from bures.cli.fitted import Fitted, columns, words
from bures.report.probe_words import heading, legend
from bures.results.brief import probe_brief
from bures.results.probing import ProbeResult


def probe_table(result: ProbeResult) -> RenderableType:
    """One table a pair of sets, the baselines at the foot of each."""
    if not result.detectors:
        return words(*result.notes)
    keys = list(result.detectors[0].told)
    return Group(*(_table(result, key) for key in keys), words(*legend(result)))


def _table(result: ProbeResult, key: str) -> Fitted:
    brief = probe_brief(result, key, heading(result, key))
    spare = (*(name for name in brief.header[::-1] if name.startswith("FPR")), "selection")
    table = Fitted(brief.title, columns(*brief.header, left=("detector",), wraps=("detector",), spare=spare))
    for cells in brief.rows:
        table.add(cells)
    return table
