"""`bures audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from bures.cli.console import output
from bures.cli.options import AsJson, Estimating, Given, Out, carry_out, command, say_estimate
from bures.jobs.config import AuditConfig


@command(AuditConfig)
def audit(
    given: Given[AuditConfig],
    out: Out = None,
    as_json: AsJson = False,
    estimate: Estimating = False,
    show_completions: Annotated[
        int, typer.Option(help="Show this many completions per row (may be harmful text).")
    ] = 0,
) -> None:
    """Fit, choose and measure interventions on a model's refusal.

    Example: bures audit Qwen/Qwen2.5-7B-Instruct --max-new-tokens 64

    Example: bures audit organism --limit 40 --max-new-tokens 16

    Example: bures audit Qwen/Qwen2.5-7B-Instruct --protocol paper --estimate
    """
    if estimate:
        say_estimate(given.settings(), as_json=as_json)
        return
    from bures.cli.tables import audit_table
    from bures.jobs.audit import audit as run

    target = carry_out(run, given.settings(), out, as_json=as_json, table=audit_table)
    if show_completions and not as_json:
        _show(output(), target, show_completions)


def _show(console: Console, target: Path, count: int) -> None:
    """Completions of a finished run, escaped; only where the user asked for them."""
    from bures.results.run_folder import RunFolder

    shown: dict[tuple[str, str], int] = {}
    for line in RunFolder(target).read_completions():
        key = (line["row"], line["set"])
        shown[key] = shown.get(key, 0) + 1
        if shown[key] <= count:
            console.print(Text(f"[{line['row']} {line['set']} {line['hash'][:12]}] {line['completion']!a}"))
