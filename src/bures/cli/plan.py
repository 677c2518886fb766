"""`bures plan`."""

from __future__ import annotations

from bures.cli.comparisons import AsJson, show
from bures.cli.options import Given, command
from bures.results.questions import PlanConfig


@command(PlanConfig)
def plan(given: Given[PlanConfig], as_json: AsJson = False) -> None:
    """How many prompts a gate and a choice take, before anything is run.

    Example: bures plan --max-asr 0.10 --power 0.8

    Example: bures plan --max-asr 0.10 --max-increase 0.05 --rows 9

    Example: bures plan --max-regret 0.015 --n-again 16
    """
    from bures.cli.comparison_tables import plan_lines
    from bures.results.plan import plan as run

    show(run(given.settings()), plan_lines, as_json=as_json)
