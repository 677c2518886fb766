"""`bures audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from bures.cli.console import output
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


def audit(
    model: Model = None,
    config: ConfigFile = None,
    out: Out = None,
    adapter: Adapter = None,
    revision: Revision = None,
    harmful: Harmful = None,
    harmless: Harmless = None,
    harmful_fit: HarmfulFit = None,
    harmful_select: HarmfulSelect = None,
    harmful_test: Annotated[str | None, typer.Option(help="[harmbench:test]")] = None,
    harmless_fit: HarmlessFit = None,
    harmless_select: HarmlessSelect = None,
    harmless_test: Annotated[str | None, typer.Option(help="[alpaca:test]")] = None,
    column: Column = None,
    corpus: Annotated[
        str | None,
        typer.Option(help="Text for perplexity: wikipedia, wikitext, pile, a file or none [wikipedia]."),
    ] = None,
    corpus_tokens: Annotated[int | None, typer.Option(help="Tokens of it [8192].")] = None,
    n_fit: NFit = None,
    n_select: NSelect = None,
    n_test: Annotated[int | None, typer.Option(help="Harmful test prompts [all].")] = None,
    n_harmless_test: Annotated[int | None, typer.Option(help="Harmless test prompts [100].")] = None,
    limit: Limit = None,
    methods: Annotated[
        str | None, typer.Option(help="rfa, rfa-mean, act, act-interval, mean-act, pca-ot [rfa,act,mean-act,pca-ot].")
    ] = None,
    ranks: Annotated[str | None, typer.Option(help="K of PCA-OT to try [1,2,8].")] = None,
    scopes: Annotated[str | None, typer.Option(help="Tokens to move: all, prompt, last, generated [all,last].")] = None,
    depth: Depth = None,
    blocks: Blocks = None,
    all_blocks: Annotated[bool | None, typer.Option(help="Measure each method on all blocks too [yes].")] = None,
    strength: Strength = None,
    ridge: Ridge = None,
    shrinkage: Shrinkage = None,
    max_kl: MaxKl = None,
    max_perplexity_ratio: Annotated[float | None, typer.Option(help="Perplexity budget of a choice [1.1].")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Greedy tokens per test answer [64].")] = None,
    select_tokens: Annotated[int | None, typer.Option(help="Greedy tokens per selection answer [24].")] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Capability by lm-eval: mmlu, arc_easy, hellaswag ... [none].")
    ] = None,
    n_task: Annotated[int | None, typer.Option(help="Questions of each task or MMLU subject [all].")] = None,
    metrics: Annotated[str | None, typer.Option(help="Metrics of installed packages [none].")] = None,
    backend: Annotated[
        str | None, typer.Option(help="Who answers the test prompts: transformers or vllm [transformers].")
    ] = None,
    tensor_parallel: Annotated[int | None, typer.Option(help="Devices over which vLLM shards the model [1].")] = None,
    vllm_memory: Annotated[
        float | None, typer.Option(help="Share of device memory that vLLM takes, on a CPU of the machine's [0.5].")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Judge that chooses and heads the table: arditi or gcg [arditi].")
    ] = None,
    system: System = None,
    seed: Seed = None,
    dtype: Dtype = None,
    device: Device = None,
    token_budget: TokenBudget = None,
    trust_remote_code: TrustRemoteCode = None,
    as_json: AsJson = False,
    show_completions: Annotated[
        int, typer.Option(help="Show this many completions per row (may be harmful text).")
    ] = 0,
) -> None:
    """Fit, choose and measure interventions on a model's refusal.

    Example: bures audit Qwen/Qwen2.5-7B-Instruct --max-new-tokens 64

    Example: bures audit organism --limit 40 --max-new-tokens 16
    """
    from bures.cli.tables import audit_table
    from bures.jobs.audit import audit as run
    from bures.jobs.config import AuditConfig

    settings = configuration(AuditConfig, locals())
    target = carry_out(run, settings, out, as_json=as_json, table=audit_table)
    if show_completions and not as_json:
        _show(output(), target, show_completions)


def _show(console: Console, target: Path, count: int) -> None:
    """Completions of a finished run, escaped; only where the user asked for them."""
    from bures.results.run_folder import RunFolder

    shown: dict[tuple[str, str], int] = {}
    for line in RunFolder(target).read_completions():
        key = (line["row"], line["set"])
        shown[key] = shown.get(key, 0) + 1
        if shown[key] <= count:
            console.print(Text(f"[{line['row']} {line['set']} {line['hash'][:12]}] {line['completion']!a}"))
