"""`bures organism`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bures.cli.console import Bars, output
from bures.cli.options import Given, command
from bures.training.organism.config import OrganismConfig

app = typer.Typer(no_args_is_help=True, help="The model organism: a small model trained to refuse.")


@app.command()
@command(OrganismConfig, only=("seed", "device"))
def train(
    given: Given[OrganismConfig],
    out: Annotated[Path, typer.Option(help="Folder for the adapter, its recipe and its figures.")] = Path("organism"),
    measure: Annotated[bool, typer.Option(help="Measure the three bars afterwards.")] = True,
) -> None:
    """Train the LoRA that makes SmolLM2-135M-Instruct refuse; minutes on two cores.

    Example: bures organism train --out organism
    """
    from bures.training.organism import train_organism

    bars = Bars(Console(stderr=True))
    with bars.bars:
        folder = train_organism(given.settings(), out=out, measure=measure, progress=bars)
    typer.echo(f"adapter: {folder}")


@app.command()
def evaluate(
    adapter: Annotated[Path | None, typer.Argument(help="Adapter folder; default: the shipped one.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many prompts of each set: a quick look.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...")] = None,
) -> None:
    """Measure how much an organism refuses, over-refuses, and what that cost its answers.

    Example: bures organism evaluate --limit 40
    """
    from bures.results.formatting import estimate, share
    from bures.training.organism import evaluate_organism

    bars = Bars(Console(stderr=True))
    with bars.bars:
        report = evaluate_organism(adapter, limit=limit, device=device, progress=bars)
    table = Table("figure", "organism", "original", "n", title_justify="left")
    for name, m in report.refusal.items():
        table.add_row(
            Text(f"refusal % on {name}"), Text(share(m, unit="")), Text(share(report.original[name], unit="")), str(m.n)
        )
    ratio = report.perplexity_ratio
    shown = Text(estimate(ratio, 3))
    table.add_row("perplexity of the original's harmless answers, ratio", shown, "1", str(ratio.n))
    output().print(table)
    for failure in report.failures:
        typer.echo(f"bar missed: {failure}")
    if report.failures:
        raise typer.Exit(1)
