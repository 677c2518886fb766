"""`bures export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bures.cli.comparisons import write


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a bures audit, scan, search, probe or defence table.")],
    to: Annotated[
        Literal["csv", "latex", "markdown", "model-card"],
        typer.Option(help="What to write; a model card is of an audit."),
    ] = "markdown",
    out: Annotated[Path | None, typer.Option(help="File to write [standard output].")] = None,
) -> None:
    """Write a run's figures for other documents: keys, intervals, n, judge and cautions; never a prompt or an answer.

    Example: bures export runs/my-model-1a2b3c4d --to csv --out table.csv

    Example: bures export runs/my-model-1a2b3c4d --to model-card > section.md
    """
    from bures.report.export import export as exported
    from bures.results.run_folder import load_result
    from bures.results.schema import RunResult

    text = exported(load_result(run, RunResult), to)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write(out, text)
