"""`bures probe`."""

from __future__ import annotations

from bures.cli.options import AsJson, Given, Out, carry_out, command
from bures.jobs.probe.config import ProbeConfig


@command(ProbeConfig)
def probe(given: Given[ProbeConfig], out: Out = None, as_json: AsJson = False) -> None:
    """Fit detectors of harmful prompts on a model's activations, and measure them beside what the words alone tell.

    Example: bures probe organism --limit 40

    Example: bures probe organism --transfer-harmful xstest-unsafe --transfer-harmless xstest
    """
    from bures.cli.probe_table import probe_table
    from bures.jobs.probe.job import probe as run

    carry_out(run, given.settings(), out, as_json=as_json, table=probe_table)
