"""`bures init`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from bures.jobs.config import AuditConfig, SearchConfig
from bures.jobs.defence.config import DefendConfig
from bures.jobs.options import template
from bures.jobs.probe.config import ProbeConfig
from bures.jobs.scan_config import ScanConfig
from bures.results.questions import CompareConfig, GateConfig, HistoryConfig
from bures.training.harden import HardenConfig

_SCHEMAS = {
    "audit": AuditConfig,
    "scan": ScanConfig,
    "search": SearchConfig,
    "probe": ProbeConfig,
    "harden": HardenConfig,
    "defend": DefendConfig,
    "compare": CompareConfig,
    "gate": GateConfig,
    "history": HistoryConfig,
}

Job = Literal["audit", "scan", "search", "probe", "harden", "defend", "compare", "gate", "history"]


def init(
    job: Annotated[Job, typer.Argument(help="The command whose options are wanted.", show_default=False)] = "audit",
) -> None:
    """Print a TOML file with every option of a command, its sentence and its default.

    Example: bures init > audit.toml

    Example: bures init gate > gate.toml
    """
    typer.echo(template(_SCHEMAS[job], job))
