"""`bures harden`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bures.cli.console import Bars, stdout_kept
from bures.cli.options import Given, command
from bures.training.harden.config import HardenConfig


@command(HardenConfig)
def harden(
    given: Given[HardenConfig],
    out: Annotated[
        Path, typer.Option(help="Folder of the adapter and its card. The same command continues a killed run.")
    ] = Path("hardened"),
    measured: Annotated[
        Path | None,
        typer.Option(
            help="Train nothing: write the figures of this audit of the adapter (a run folder) into its card."
        ),
    ] = None,
) -> None:
    """Train a LoRA with which a model keeps refusing although its activations are edited.

    Example: bures harden organism --out hardened

    Example: bures audit organism --adapter hardened
    """
    from bures.training.harden.card import record
    from bures.training.harden.job import harden as run

    if measured is not None:
        record(out, measured)
        typer.echo(f"card: {out / 'README.md'}")
        return
    bars = Bars(Console(stderr=True))
    with stdout_kept(), bars:
        folder = run(given.settings(), out, progress=bars)
    typer.echo(f"adapter: {folder}")
