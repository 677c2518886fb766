"""`bures view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from bures.errors import plain


def view(
    run: Annotated[Path, typer.Argument(help="Folder of a bures audit.")],
    out: Annotated[Path | None, typer.Option(help="File to write [answers.html in the folder].")] = None,
) -> None:
    """Write a page of a run's answers for yourself: by row, verdict, judges that disagree, and what flipped.

    The file holds prompts and answers (may be harmful text), is readable by its owner only and needs no network.

    Example: bures view runs/my-model-1a2b3c4d
    """
    from bures.report.view import write_view

    target = write_view(run, out)
    Console(stderr=True).print(Text(f"answers: {plain(str(target))} (readable by you alone)"), soft_wrap=True)
