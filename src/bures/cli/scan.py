"""`bures scan`."""

from __future__ import annotations

from typing import Annotated

import typer

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
    MaxKl,
    Model,
    NFit,
    NSelect,
    Out,
    Revision,
    Ridge,
    Seed,
    Shrinkage,
    Strength,
    System,
    TokenBudget,
    TrustRemoteCode,
    carry_out,
    configuration,
)


def scan(
    model: Model = None,
    config: ConfigFile = None,
    out: Out = None,
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
    scopes: Annotated[str | None, typer.Option(help="Tokens to move: all, prompt, last [all].")] = None,
    depth: Depth = None,
    blocks: Blocks = None,
    strength: Strength = None,
    ridge: Ridge = None,
    shrinkage: Shrinkage = None,
    max_kl: MaxKl = None,
    judge: Annotated[str | None, typer.Option(help="Judge that finds the model's refusals [arditi].")] = None,
    system: System = None,
    seed: Seed = None,
    dtype: Dtype = None,
    device: Device = None,
    token_budget: TokenBudget = None,
    trust_remote_code: TrustRemoteCode = None,
    as_json: AsJson = False,
) -> None:
    """Find the blocks where refusal is decided: every method at every block, scored at the first answer token.

    Example: bures scan Qwen/Qwen2.5-7B-Instruct

    Example: bures scan organism --limit 24 --depth 0.3,0.7
    """
    from bures.cli.tables import scan_table
    from bures.jobs.config import ScanConfig
    from bures.jobs.scan import scan as run

    settings = configuration(ScanConfig, locals())
    carry_out(run, settings, out, as_json=as_json, table=scan_table)
