"""What `bures compare`, `bures gate` and `bures history` share: how findings are shown, and files that are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bures import durable
from bures.cli import console
from bures.errors import RunError

AsJson = Annotated[bool, typer.Option("--json", help="Print the findings as JSON instead of the table.")]
PageFile = Annotated[Path | None, typer.Option("--out", help="Write one page of HTML.")]


def show(found: Any, table: Any, *, as_json: bool) -> None:
    """Prints findings as a table, or as JSON."""
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1, allow_nan=False))
    else:
        console.show(table(found))


def write(path: Path, text: str) -> None:
    """Writes a file whole.

    Raises:
        RunError: it cannot be written.
    """
    try:
        durable.write(path, text)
    except OSError as error:
        raise RunError(f"cannot write {path} ({error.strerror}); give a path in a folder that exists") from error
