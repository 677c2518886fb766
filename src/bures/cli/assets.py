"""`bures assets`."""

from __future__ import annotations

from typing import Annotated

import typer

from bures.cli.console import show
from bures.cli.fitted import Fitted, columns


def assets(
    fetch: Annotated[bool, typer.Option(help="Fetch what is missing.")] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove the models that were made from GGUF files; they are made again.")
    ] = False,
) -> None:
    """List the pinned models, prompts and texts, and where they lie in the cache.

    Example: bures assets --fetch
    """
    from bures.data.assets import asset_status
    from bures.data.assets import fetch as fetch_asset
    from bures.errors import AssetError

    if clean:
        from bures.models.dequantised import clean as remove

        typer.echo(f"removed {remove() / 1e6:.0f} MB of dequantised models", err=True)
    failed: list[str] = []
    for status in asset_status() if fetch else ():
        try:
            fetch_asset(status.asset.name, progress=lambda line: typer.echo(line, err=True))
        except AssetError as error:  # the others may lie elsewhere
            failed.append(status.asset.name)
            typer.echo(str(error), err=True)
    names = ("asset", "state", "from", "licence", "file")
    table = Fitted("", columns(*names, left=names, wraps=names, spare=("licence", "from")), "wider terminals and files")
    for status in asset_status():
        a = status.asset
        origin = f"{a.package}@{a.version[:12]}" if a.addresses else a.requirement
        table.add((a.name, status.state, origin, a.licence, str(status.path)))
    show(table, 200)
    if failed:
        raise AssetError(f"not fetched: {', '.join(failed)}; what is above says why and how to bring them by hand")
