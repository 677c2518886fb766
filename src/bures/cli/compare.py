"""`bures compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from bures.cli.comparisons import AsJson, PageFile, show
from bures.cli.options import Given, command
from bures.results.questions import CompareConfig


@command(CompareConfig)
def compare(
    given: Given[CompareConfig],
    runs: Annotated[list[str], typer.Argument(help="Folders of finished audits, the baseline first.")],
    as_json: AsJson = False,
    out: PageFile = None,
) -> None:
    """Hold audits against the first of them, prompt by prompt.

    Example: bures compare runs/before runs/after --out compare.html
    """
    from bures.cli.comparison_tables import compare_table
    from bures.results.comparison import compare as run

    found = run(runs, given.settings())
    show(found, compare_table, as_json=as_json)
    if out is not None:
        from bures.report.build import write_page
        from bures.report.pages.compare import compare_page

        write_page(compare_page(found), out)
