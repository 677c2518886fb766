"""What `bures compare`, `bures gate` and `bures history` share: options from a file, and files that are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel

from bures.cli.console import output
from bures.errors import RunError

Config = TypeVar("Config", bound=BaseModel)

Judge = Annotated[str | None, typer.Option(help="Whose marks count [that of the first run].")]
Budget = Annotated[
    float | None,
    typer.Option(
        "--max-perplexity-ratio",
        help="Perplexity budget of the strongest intervention on the selection split [that of the audit].",
    ),
]
Rows = Annotated[
    list[str] | None,
    typer.Option(help="Key of a row, or 'strongest' (within the budget, by the selection split); repeatable [both]."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the findings as JSON instead of the table.")]
PageFile = Annotated[Path | None, typer.Option("--out", help="Write one page of HTML.")]


def settings(schema: type[Config], file: Path | None, given: Mapping[str, Any]) -> Config:
    """The options of a TOML file, and over them those of the command line that were given (not None).

    Raises:
        ConfigError: an option is unknown, cannot be read or is out of range.
    """
    from bures.jobs.options import read_toml, validated

    options = {} if file is None else read_toml(file)
    return validated(schema, options | {name: value for name, value in given.items() if value is not None})


def show(found: Any, table: Any, *, as_json: bool) -> None:
    """Prints findings as a table, or as JSON."""
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1, allow_nan=False))
    else:
        output().print(table(found))


def write(path: Path, text: str) -> None:
    """Writes a file whole.

    Raises:
        RunError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path} ({error.strerror}); give a path in a folder that exists") from error
