"""`bures search`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from bures.cli.console import Bars, stdout_kept
from bures.cli.options import AsJson, Given, Out, carry_out, command
from bures.jobs.config import SearchConfig


@command(SearchConfig)
def search(
    given: Given[SearchConfig],
    worker: Annotated[
        str | None, typer.Option(help="Join the search in this storage (an SQLAlchemy URL) and work until it ends.")
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Search interventions for the best trade of ASR against KL; several processes or machines may work on it.

    Example: bures search Qwen/Qwen2.5-7B-Instruct --trials 300 --storage postgresql+psycopg://me@db/searches

    Example: bures search --worker postgresql+psycopg://me@db/searches --device cuda:1
    """
    from bures.cli.tables import search_table
    from bures.jobs.search import join
    from bures.jobs.search import search as run

    if worker is None:
        carry_out(run, given.settings(), out, as_json=as_json, table=search_table)
        return
    notice = Console(stderr=True)
    bars = Bars(notice)
    study = given.typed.get("study", SearchConfig.model_fields["study"].default)
    with stdout_kept(), bars:
        own = {name: given.typed[name] for name in ("device", "threads") if name in given.typed}
        done = join(worker, study, **own, progress=bars)
    notice.print(Text(f"the search has {done} finished trials; its results are where it was begun"))
