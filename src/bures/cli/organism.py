"""`bures organism`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bures.cli.console import Bars, show, stdout_kept
from bures.cli.fitted import Fitted, columns
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
    with stdout_kept(), bars:
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
    with stdout_kept(), bars:
        report = evaluate_organism(adapter, limit=limit, device=device, progress=bars)
    names = ("figure", "organism", "original", "n")
    table = Fitted("", columns(*names, left=names[:3], wraps=names[:1]))
    for name, m in report.refusal.items():
        table.add((f"refusal % on {name}", share(m, unit=""), share(report.original[name], unit=""), str(m.n)))
    ratio = report.perplexity_ratio
    table.add(("perplexity of the original's harmless answers, ratio", estimate(ratio, 3), "1", str(ratio.n)))
    show(table)
    for failure in report.failures:
        typer.echo(f"bar missed: {failure}")
    if report.failures:
        raise typer.Exit(1)
