"""`bures search`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from bures.cli.console import Bars
from bures.cli.options import (
    Adapter,
    AsJson,
    Blocks,
    Column,
    ConfigFile,
    Depth,
    Device,
    Dtype,
    Harmful,
    HarmfulFit,
    HarmfulSelect,
    Harmless,
    HarmlessFit,
    HarmlessSelect,
    Limit,
    Model,
    NFit,
    NSelect,
    Out,
    Revision,
    Ridge,
    Seed,
    System,
    TokenBudget,
    TrustRemoteCode,
    carry_out,
    configuration,
)


def search(
    model: Model = None,
    config: ConfigFile = None,
    out: Out = None,
    worker: Annotated[
        str | None, typer.Option(help="Join the search in this storage (an SQLAlchemy URL) and work until it ends.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="SQLAlchemy URL, such as postgresql+psycopg://user@host/database [SQLite in the run folder]."
        ),
    ] = None,
    study: Annotated[str | None, typer.Option(help="Name of the search in the storage [bures].")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials of all workers together [200].")] = None,
    adapter: Adapter = None,
    revision: Revision = None,
    harmful: Harmful = None,
    harmless: Harmless = None,
    harmful_fit: HarmfulFit = None,
    harmful_select: HarmfulSelect = None,
    harmless_fit: HarmlessFit = None,
    harmless_select: HarmlessSelect = None,
    column: Column = None,
    n_fit: NFit = None,
    n_select: NSelect = None,
    limit: Limit = None,
    methods: Annotated[
        str | None,
        typer.Option(help="rfa, rfa-mean, act, act-interval, mean-act, pca-ot [rfa,rfa-mean,act,mean-act,pca-ot]."),
    ] = None,
    ranks: Annotated[str | None, typer.Option(help="K of PCA-OT to try [1,2,4,8,16].")] = None,
    scopes: Annotated[str | None, typer.Option(help="Tokens to move: all, prompt, last, generated [all,last].")] = None,
    strengths: Annotated[str | None, typer.Option(help="Strengths to try [0.5,0.75,1,1.25,1.5].")] = None,
    shrinkages: Annotated[str | None, typer.Option(help="none, ledoit-wolf, oas [none,ledoit-wolf].")] = None,
    max_band: Annotated[int | None, typer.Option(help="Most neighbouring blocks of a band [4].")] = None,
    short_tokens: Annotated[int | None, typer.Option(help="Greedy tokens of the middle rung [12].")] = None,
    long_tokens: Annotated[int | None, typer.Option(help="Greedy tokens of the last rung [48].")] = None,
    depth: Depth = None,
    blocks: Blocks = None,
    ridge: Ridge = None,
    judge: Annotated[str | None, typer.Option(help="Judge of the answers [arditi].")] = None,
    system: System = None,
    seed: Seed = None,
    dtype: Dtype = None,
    device: Device = None,
    token_budget: TokenBudget = None,
    trust_remote_code: TrustRemoteCode = None,
    as_json: AsJson = False,
) -> None:
    """Search interventions for the best trade of ASR against KL; several processes or machines may work on it.

    Example: bures search Qwen/Qwen2.5-7B-Instruct --trials 300 --storage postgresql+psycopg://me@db/searches

    Example: bures search --worker postgresql+psycopg://me@db/searches --device cuda:1
    """
    from bures.cli.tables import search_table
    from bures.jobs.config import SearchConfig
    from bures.jobs.search import join
    from bures.jobs.search import search as run

    if worker is not None:
        notice = Console(stderr=True)
        bars = Bars(notice)
        with bars.bars:
            done = join(worker, study or "bures", device=device, progress=bars)
        notice.print(Text(f"the search has {done} finished trials; its results are where it was begun"))
        return
    settings = configuration(SearchConfig, locals())
    carry_out(run, settings, out, as_json=as_json, table=search_table)
