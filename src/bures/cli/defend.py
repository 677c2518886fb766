"""`bures defend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bures.cli.options import AsJson, Given, carry_out, command
from bures.jobs.defence.config import DefendConfig


@command(DefendConfig)
def defend(
    given: Given[DefendConfig],
    out: Annotated[Path, typer.Option(help="Folder of the table. The same command continues a killed run.")] = Path(
        "defence"
    ),
    as_json: AsJson = False,
) -> None:
    """Attack the models of finished audits in many ways on the same prompts: the worst attack, and all together.

    Example: bures defend ours=runs/ours control=runs/control before=runs/before --before runs/before --out defence
    """
    from bures.cli.defence_table import defence_table
    from bures.jobs.defence.job import defend as run

    carry_out(run, given.settings(), out, as_json=as_json, table=defence_table)
