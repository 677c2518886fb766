"""`bures compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from bures.cli.comparisons import AsJson, Budget, Judge, PageFile, settings, show
from bures.cli.options import ConfigFile


def compare(
    runs: Annotated[list[str], typer.Argument(help="Folders of finished audits, the baseline first.")],
    config: ConfigFile = None,
    judge: Judge = None,
    max_perplexity_ratio: Budget = None,
    as_json: AsJson = False,
    out: PageFile = None,
) -> None:
    """Hold audits against the first of them, prompt by prompt.

    Example: bures compare runs/before runs/after --out compare.html
    """
    from bures.cli.comparison_tables import compare_table
    from bures.results.comparison import CompareConfig
    from bures.results.comparison import compare as run

    given = {"judge": judge, "max_perplexity_ratio": max_perplexity_ratio}
    found = run(runs, settings(CompareConfig, config, given))
    show(found, compare_table, as_json=as_json)
    if out is not None:
        from bures.report.build import write_page
        from bures.report.pages.compare import compare_page

        write_page(compare_page(found), out)
