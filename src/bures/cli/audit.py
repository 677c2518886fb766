"""`bures audit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from bures.cli.console import Bars, block_numbers, list_of, output
from bures.errors import ConfigError


def audit(
    model: Annotated[str | None, typer.Argument(help="Hub id, folder, .gguf file, or 'organism'.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file whose keys are these options.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default runs/MODEL-HASH. The same command continues it.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="LoRA adapter folder, merged in memory.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    harmful_fit: Annotated[str | None, typer.Option(help="Prompts: pinned name, file or hub id [advbench].")] = None,
    harmful_select: Annotated[str | None, typer.Option(help="[harmbench:select]")] = None,
    harmful_test: Annotated[str | None, typer.Option(help="[harmbench:test]")] = None,
    harmless_fit: Annotated[str | None, typer.Option(help="[alpaca:fit]")] = None,
    harmless_select: Annotated[str | None, typer.Option(help="[alpaca:select]")] = None,
    harmless_test: Annotated[str | None, typer.Option(help="[alpaca:test]")] = None,
    column: Annotated[str | None, typer.Option(help="Prompt column of table files, where it cannot be told.")] = None,
    corpus: Annotated[
        str | None, typer.Option(help="Text for corpus perplexity: pinned name or file [wikipedia].")
    ] = None,
    corpus_tokens: Annotated[int | None, typer.Option(help="Tokens of it [8192].")] = None,
    n_fit: Annotated[int | None, typer.Option(help="Prompts per side to fit on [128].")] = None,
    n_select: Annotated[int | None, typer.Option(help="Prompts per side to choose on [32].")] = None,
    n_test: Annotated[int | None, typer.Option(help="Harmful test prompts [all].")] = None,
    n_harmless_test: Annotated[int | None, typer.Option(help="Harmless test prompts [100].")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many prompts in every split: a quick look.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="rfa, rfa-mean, act, act-interval, mean-act, pca-ot [rfa,act,mean-act,pca-ot].")
    ] = None,
    ranks: Annotated[str | None, typer.Option(help="K of PCA-OT to try [1,2,8].")] = None,
    scopes: Annotated[str | None, typer.Option(help="Tokens to move: all, prompt, last, generated [all,last].")] = None,
    depth: Annotated[str | None, typer.Option(help="Blocks to scan, as shares of the depth [0.2,0.8].")] = None,
    blocks: Annotated[str | None, typer.Option(help="Blocks to scan, by number: 8-12 or 3,8-12.")] = None,
    all_blocks: Annotated[bool | None, typer.Option(help="Measure each method on all blocks too [yes].")] = None,
    strength: Annotated[float | None, typer.Option(help="lambda in h + lambda (T(h) - h) [1].")] = None,
    ridge: Annotated[float | None, typer.Option(help="Ridge of PCA-OT, relative to the mean variance.")] = None,
    shrinkage: Annotated[str | None, typer.Option(help="ledoit-wolf or oas [none].")] = None,
    max_perplexity_ratio: Annotated[float | None, typer.Option(help="Perplexity budget of a choice [1.1].")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Greedy tokens per test answer [64].")] = None,
    select_tokens: Annotated[int | None, typer.Option(help="Greedy tokens per selection answer [24].")] = None,
    judge: Annotated[
        str | None, typer.Option(help="Judge that chooses and heads the table: arditi or gcg [arditi].")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of prompt subsets and bootstrap intervals [0].")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, or auto to shard over all devices.")] = None,
    token_budget: Annotated[int | None, typer.Option(help="Padded tokens in one forward pass [4096].")] = None,
    trust_remote_code: Annotated[bool | None, typer.Option(help="Run code that comes with a hub repository.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")] = False,
    show_completions: Annotated[
        int, typer.Option(help="Show this many completions per row (may be harmful text).")
    ] = 0,
) -> None:
    """Fit, choose and measure interventions on a model's refusal.

    Example: bures audit Qwen/Qwen2.5-7B-Instruct --max-new-tokens 64

    Example: bures audit organism --limit 40 --max-new-tokens 16
    """
    from bures.auditing import audit as run
    from bures.auditing import default_out
    from bures.config import AuditConfig
    from bures.options import read_toml
    from bures.tables import audit_table

    given = dict(locals())
    options: dict[str, Any] = {} if config is None else read_toml(config)
    lists: dict[str, Callable[[str | None], Any]] = {
        "methods": list_of(str, "methods"),
        "ranks": list_of(int, "ranks"),
        "scopes": list_of(str, "token scopes"),
        "depth": list_of(float, "a depth range"),
        "blocks": block_numbers,
    }
    for name in AuditConfig.model_fields:
        value = given[name]
        if value is not None:
            options[name] = lists[name](value) if name in lists else value
    if not options.get("model"):
        raise ConfigError("no model given; expected a hub id, a folder, a .gguf file or 'organism'")
    if options.get("corpus") == "none":
        options["corpus"] = None
    settings = AuditConfig.make(**options)
    target = out or default_out(settings)
    notice = Console(stderr=True)
    bars = Bars(notice)
    with bars.bars:
        result = run(settings, target, progress=bars)
    if as_json:
        typer.echo(result.to_json())
        return
    console = output()
    console.print(audit_table(result))
    if show_completions:
        _show(console, target, show_completions)
    notice.print(Text(f"run folder: {target}"))


def _show(console: Console, target: Path, count: int) -> None:
    """Completions of a finished run, escaped; only where the user asked for them."""
    from bures.results import RunFolder

    shown: dict[tuple[str, str], int] = {}
    for line in RunFolder(target).read_completions():
        key = (line["row"], line["set"])
        shown[key] = shown.get(key, 0) + 1
        if shown[key] <= count:
            console.print(Text(f"[{line['row']} {line['set']} {line['hash'][:12]}] {line['completion']!a}"))
