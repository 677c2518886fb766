"""`bures scan`."""

from __future__ import annotations

from bures.cli.options import AsJson, Estimating, Given, Out, carry_out, command, say_estimate
from bures.jobs.scan_config import ScanConfig


@command(ScanConfig)
def scan(given: Given[ScanConfig], out: Out = None, as_json: AsJson = False, estimate: Estimating = False) -> None:
    """Find the blocks where refusal is decided: every method at every block, scored at the first answer token.

    Example: bures scan Qwen/Qwen2.5-7B-Instruct

    Example: bures scan organism --limit 24 --depth 0.3,0.7
    """
    if estimate:
        say_estimate(given.settings(), as_json=as_json)
        return
    from bures.cli.tables import scan_table
    from bures.jobs.scan import scan as run

    carry_out(run, given.settings(), out, as_json=as_json, table=scan_table)
