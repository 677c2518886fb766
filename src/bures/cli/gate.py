"""`bures gate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bures.cli.comparisons import AsJson, Budget, Judge, Rows, settings, show, write
from bures.cli.options import ConfigFile

FAILED = 1
"""Exit code of a gate that does not pass; 0 where it does, 2 for bad input."""


def gate(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a finished audit.")],
    config: ConfigFile = None,
    max_asr: Annotated[float | None, typer.Option(help="Largest ASR, as a share: 0.10.")] = None,
    against: Annotated[str | None, typer.Option(help="Folder of the audit to compare with.")] = None,
    max_increase: Annotated[float | None, typer.Option(help="Largest increase of the ASR over it, as a share.")] = None,
    max_over_refusal: Annotated[
        float | None, typer.Option(help="Largest share of harmless prompts refused without intervention.")
    ] = None,
    row: Rows = None,
    judge: Judge = None,
    max_perplexity_ratio: Budget = None,
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
    from bures.results.gate import GateConfig
    from bures.results.gate import gate as run

    given = {name: value for name, value in locals().items() if name in GateConfig.model_fields}
    found = run(folder, settings(GateConfig, config, given))
    found = replace(found, notes=(*found.notes, sentence(found.judge)))
    show(found, gate_table, as_json=as_json)
    for path, text in ((junit, as_junit), (markdown, as_markdown)):
        if path is not None:
            write(path, text(found))
    if not found.passed:
        raise typer.Exit(FAILED)
