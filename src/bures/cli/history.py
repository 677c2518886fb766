"""`bures history`."""

from __future__ import annotations

from typing import Annotated

import typer

from bures.cli.comparisons import AsJson, PageFile, show
from bures.cli.options import Given, command
from bures.results.questions import HistoryConfig


@command(HistoryConfig)
def history(
    given: Given[HistoryConfig],
    runs: Annotated[list[str], typer.Argument(help="Folders of audits, in any order.")],
    as_json: AsJson = False,
    out: PageFile = None,
) -> None:
    """Draw audits over time: ASR, perplexity and chosen blocks; what cannot be compared stands apart.

    Example: bures history runs/nightly-* --out history.html
    """
    from bures.cli.comparison_tables import history_table
    from bures.results.history import history as run

    found = run(runs, given.settings())
    show(found, history_table, as_json=as_json)
    if out is not None:
        from bures.report.build import write_page
        from bures.report.pages.history import history_page

        write_page(history_page(found), out)
