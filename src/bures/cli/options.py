"""Options that several commands share, and how they and a TOML file become a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer
from rich.console import Console
from rich.text import Text

from bures.cli.console import Bars, block_numbers, list_of, output
from bures.errors import ConfigError

Config = TypeVar("Config")

Model = Annotated[str | None, typer.Argument(help="Hub id, folder, .gguf file, or 'organism'.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file whose keys are these options.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; default runs/MODEL-HASH. The same command continues it.")]
Adapter = Annotated[str | None, typer.Option(help="LoRA adapter folder, merged in memory.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")]
Harmful = Annotated[
    str | None,
    typer.Option(help="For all splits: harmbench, advbench, jailbreakbench, strongreject, file or hub id."),
]
Harmless = Annotated[str | None, typer.Option(help="Likewise: alpaca, jailbreakbench-benign, file or hub id.")]
HarmfulFit = Annotated[str | None, typer.Option(help="Prompts: pinned name, file or hub id [advbench].")]
HarmfulSelect = Annotated[str | None, typer.Option(help="[harmbench:select]")]
HarmlessFit = Annotated[str | None, typer.Option(help="[alpaca:fit]")]
HarmlessSelect = Annotated[str | None, typer.Option(help="[alpaca:select]")]
Column = Annotated[str | None, typer.Option(help="Prompt column of table files, where it cannot be told.")]
NFit = Annotated[int | None, typer.Option(help="Prompts per side to fit on [128].")]
NSelect = Annotated[int | None, typer.Option(help="Prompts per side to choose on [32].")]
Limit = Annotated[int | None, typer.Option(help="At most this many prompts in every split: a quick look.")]
Depth = Annotated[str | None, typer.Option(help="Blocks to scan, as shares of the depth [0,1].")]
Blocks = Annotated[str | None, typer.Option(help="Blocks to scan, by number: 8-12 or 3,8-12.")]
Strength = Annotated[float | None, typer.Option(help="lambda in h + lambda (T(h) - h) [1].")]
Ridge = Annotated[float | None, typer.Option(help="Ridge of PCA-OT, relative to the mean variance.")]
Shrinkage = Annotated[str | None, typer.Option(help="ledoit-wolf or oas [none].")]
MaxKl = Annotated[float | None, typer.Option(help="First-token KL with which a map may speak for its block [0.5].")]
System = Annotated[str | None, typer.Option(help="System prompt.")]
Seed = Annotated[int | None, typer.Option(help="Of prompt subsets and bootstrap intervals [0].")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, or auto to shard over all devices.")]
TokenBudget = Annotated[int | None, typer.Option(help="Padded tokens in one forward pass [4096].")]
TrustRemoteCode = Annotated[bool | None, typer.Option(help="Run code that comes with a hub repository.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")]

_LISTS: Mapping[str, Callable[[str | None], Any]] = {
    "methods": list_of(str, "methods"),
    "metrics": list_of(str, "metrics"),
    "tasks": list_of(str, "tasks"),
    "ranks": list_of(int, "ranks"),
    "scopes": list_of(str, "token scopes"),
    "depth": list_of(float, "a depth range"),
    "strengths": list_of(float, "strengths"),
    "shrinkages": list_of(str, "shrinkages"),
    "blocks": block_numbers,
}


def configuration(schema: type[Config], given: Mapping[str, Any]) -> Config:
    """The options of a command: those of the TOML file, and over them those of the command line.

    Args:
        schema: the configuration's class, a `ScanConfig` or one of its heirs.
        given: the command's arguments; `config` is the TOML file, and None stands for what was not given.

    Raises:
        ConfigError: an option is unknown, cannot be read or is out of range, or there is no model.
    """
    from bures.data.shorthand import SIDES, expanded
    from bures.jobs.options import read_toml

    fields = cast("Any", schema).model_fields
    typed = {
        name: _LISTS[name](value) if name in _LISTS else value
        for name in (*fields, *SIDES)
        if (value := given.get(name)) is not None
    }
    written = {} if given["config"] is None else read_toml(given["config"])
    # each by itself: --harmful on the command line is above harmful-fit in the file
    options = {**expanded(written, fields), **expanded(typed, fields)}
    if not options.get("model"):
        raise ConfigError("no model given; expected a hub id, a folder, a .gguf file or 'organism'")
    if options.get("corpus") == "none":
        options["corpus"] = None
    return cast("Any", schema).make(**options)


def carry_out(run: Callable[..., Any], settings: Any, out: Path | None, *, as_json: bool, table: Any) -> Path:
    """Runs a job under progress bars, prints its table, or its results as JSON, and writes its page.

    Returns:
        The run folder.
    """
    from bures.jobs.run import default_out
    from bures.report.build import write_report

    target, notice = out or default_out(settings), Console(stderr=True)
    bars = Bars(notice)
    with bars.bars:
        result = run(settings, target, progress=bars)
    if as_json:
        typer.echo(result.to_json())
    else:
        output().print(table(result))
        notice.print(Text(f"run folder: {target}"))
    page = write_report(target)  # last: what was measured is said whatever becomes of the page
    if not as_json:
        notice.print(Text(f"report: {page}"), soft_wrap=True)
    return target
