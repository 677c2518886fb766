"""`bures gate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bures.cli.comparisons import AsJson, show, write
from bures.cli.options import Given, command
from bures.results.questions import GateConfig

FAILED = 1
"""Exit code of a gate that does not pass; 0 where it does, 2 for bad input."""


@command(GateConfig)
def gate(
    given: Given[GateConfig],
    folder: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a finished audit.")],
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a summary in Markdown.")] = None,
    as_json: AsJson = False,
) -> None:
    """Pass (0) or fail (1) an audit: the whole 95 % interval has to keep the limit, not the estimate alone.

    Example: bures gate runs/candidate --max-asr 0.10 --junit gate.xml

    Example: bures gate runs/candidate --against runs/released --max-increase 0.05
    """
    from bures.cli.comparison_tables import gate_table
    from bures.judges.known_error import sentence
    from bures.report.gate_summaries import junit as as_junit
    from bures.report.gate_summaries import markdown as as_markdown
    from bures.results.gate import gate as run

    found = run(folder, given.settings())
    if found.by_judge:
        found = replace(found, notes=(*found.notes, sentence(found.judge)))
    show(found, gate_table, as_json=as_json)
    for path, text in ((junit, as_junit), (markdown, as_markdown)):
        if path is not None:
            write(path, text(found))
    if not found.passed:
        raise typer.Exit(FAILED)
