"""`bures report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from bures.errors import plain


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a bures audit, scan or search.")],
    out: Annotated[Path | None, typer.Option(help="File to write [report.html in the folder].")] = None,
    show_completions: Annotated[
        int,
        typer.Option(
            min=0,
            help="Show this many completions per row, with their prompts (may be harmful text); the file is then "
            "report-with-completions.html, readable by its owner only.",
        ),
    ] = 0,
) -> None:
    """Write a run folder's page: one HTML file that needs nothing else.

    Every command that makes a run folder writes it at the end; this one writes it again, or elsewhere.

    Example: bures report runs/my-model-1a2b3c4d

    Example: bures report runs/my-model-1a2b3c4d --out my-model.html
    """
    from bures.report.build import write_report

    target = write_report(run, out, show_completions=show_completions)
    Console(stderr=True).print(Text(f"report: {plain(str(target))}"), soft_wrap=True)
