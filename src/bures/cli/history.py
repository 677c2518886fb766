"""`bures history`."""

from __future__ import annotations

from typing import Annotated

import typer

from bures.cli.comparisons import AsJson, Budget, Judge, PageFile, Rows, settings, show
from bures.cli.options import ConfigFile


def history(
    runs: Annotated[list[str], typer.Argument(help="Folders of audits, in any order.")],
    config: ConfigFile = None,
    row: Rows = None,
    judge: Judge = None,
    max_perplexity_ratio: Budget = None,
    as_json: AsJson = False,
    out: PageFile = None,
) -> None:
    """Draw audits over time: ASR, perplexity and chosen blocks; what cannot be compared stands apart.

    Example: bures history runs/nightly-* --out history.html
    """
    from bures.cli.comparison_tables import history_table
    from bures.results.history import HistoryConfig
    from bures.results.history import history as run

    given = {"row": row, "judge": judge, "max_perplexity_ratio": max_perplexity_ratio}
    found = run(runs, settings(HistoryConfig, config, given))
    show(found, history_table, as_json=as_json)
    if out is not None:
        from bures.report.build import write_page
        from bures.report.pages.history import history_page

        write_page(history_page(found), out)
