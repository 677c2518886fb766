"""How a job begins: its run folder, what it held already, the prompts and the model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from bures.errors import ConfigError
from bures.jobs.config import OF_ROWS, PASSING, ScanConfig
from bures.jobs.foresight import say_memory
from bures.jobs.progress import Progress
from bures.jobs.run import Run, blocks_to_scan
from bures.jobs.splits import Splits, load_splits
from bures.judges.base import require_ready
from bures.judges.by_name import judge_by_name
from bures.models.loading import ChatModel, load_model
from bures.models.methods import METHODS, notes_of
from bures.models.precision import widen_for
from bures.results.run_folder import RunFolder
from bures.results.schema import AuditResult, RunResult

Config = TypeVar("Config", bound=ScanConfig)
Result = TypeVar("Result", bound=RunResult)

TRIED = 4
"""Selection prompts of each side on which the number format is tried."""


def default_out(config: ScanConfig) -> Path:
    """`runs/<model>-<hash of the options>`: the same command finds its folder again."""
    options = config.model_dump_json(exclude=set(PASSING))
    digest = hashlib.sha256(f"{type(config).__name__} {options}".encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9.]+", "-", Path(config.model).name).strip("-")[:60] or "model"
    return Path("runs") / f"{name}-{digest}"


def open_run(config: ScanConfig, schema: type[Result], out: str | Path | None) -> tuple[RunFolder, Result | None]:
    """The run folder of a job, and the result that it holds where the job has been finished.

    Other options of the rows alone open the folder too; `start` then keeps all but the rows.
    """
    if not isinstance(cast("object", config), ScanConfig):
        raise ConfigError(
            f"the options are a {type(config).__name__}; expected a configuration, such as "
            "bures.AuditConfig(model='organism')"
        )
    folder = RunFolder.open(Path(out) if out is not None else default_out(config), config.options, free=OF_ROWS)
    held = folder.load(schema)
    is_done = held is not None and held.status == "complete" and not _changed(held, config)
    return folder, held if is_done else None


def start(
    config: Config,
    schema: type[Result],
    folder: RunFolder | None,
    progress: Progress,
    checks: Sequence[Callable[[ChatModel], object]] = (),
    **more: Any,
) -> Run[Config, Result]:
    """Reads the prompts, loads the model, and takes up what the folder holds of the same run.

    Whatever can be wrong with the options, the prompts and the model is said before the first forward pass.

    Args:
        config: the options.
        schema: of the results.
        folder: where they are kept, if anywhere.
        progress: who is told how far it is.
        checks: called with the model once it is loaded; they raise where it does not do for the job.
        more: further fields of a fresh result.

    Raises:
        ConfigError: the judge lacks something, no block is to be scanned, or the model or the prompts have changed
            since the run began.
        ModelError: the model cannot be loaded.
        PromptError: a prompt set cannot be read.
    """
    require_ready(judge_by_name(config.judge))
    splits = load_splits(config)
    say_memory(config, splits, progress)
    model = open_model(config, progress)
    for check in (partial(_require_fit, config, splits), *checks):
        check(model)
    notes = [*model.notes, *_widened(config, model, splits)]
    fresh = schema(
        command=config.command,
        options=config.options,
        versions=versions(),
        model=model.describe(),
        methods=notes_of(config.methods),
        prompts=splits.describe(),
        judge=config.judge,
        seed=config.seed,
        **more,
    )
    run = Run(config, splits, model, fresh, folder, progress)
    held = None if folder is None else folder.load(schema)
    if held is not None:
        run = replace(run, result=_continued(held, run, more))
    run.note(*notes)
    return run


def _require_fit(config: ScanConfig, splits: Splits, model: ChatModel) -> None:
    """Refuses blocks and ranks that the model does not have, and prompts that its template cannot render."""
    blocks_to_scan(config, len(model.blocks))
    if any(METHODS[name].ranked for name in config.methods) and max(config.ranks) > model.d_model:
        raise ConfigError(
            f"ranks: K = {max(config.ranks)} is larger than the width {model.d_model} of {config.model}; lower --ranks"
        )
    for sides in (splits.fit, splits.select, splits.test):
        for _, prompts in () if sides is None else sides.items():
            model.encode(prompts, system=config.system)


def _changed(held: RunResult, config: ScanConfig) -> list[str]:
    """The options of the rows whose values are not those of the results."""
    return sorted(name for name in OF_ROWS if held.options.get(name) != config.options.get(name))


def _continued(held: Result, run: Run[Any, Result], of_rows: Iterable[str]) -> Result:
    """What a run takes up: all, or, where options of the rows have changed, all but the rows.

    Args:
        held: what its folder holds.
        run: the run, with a fresh result.
        of_rows: fields of the result that are of the rows.

    Raises:
        ConfigError: the model, or what was measured on, has changed since the run began.
    """
    fresh, rows, changed = run.result, bool(getattr(held, "rows", ())), _changed(held, run.config)
    same_model = held.model["fingerprint"] == fresh.model["fingerprint"]
    templates = [result.model.get("template", {}).get("sha256") for result in (held, fresh)]
    if same_model and templates[0] != templates[1]:
        raise ConfigError("the chat template has changed since the run began; choose another folder with --out")
    before = [name for name in {*held.prompts, *fresh.prompts} if name not in OF_ROWS]
    if not same_model or any(held.prompts.get(name) != fresh.prompts.get(name) for name in before):
        raise ConfigError("the model or the prompts have changed since the run began; choose another folder with --out")
    if rows and not changed and any(getattr(held, name) != getattr(fresh, name) for name in ("prompts", *of_rows)):
        raise ConfigError("the test prompts or the corpus have changed since the run began; choose another with --out")
    if run.folder is None or not isinstance(held, AuditResult):
        return held
    if changed and (rows or held.status == "complete"):
        target = run.folder.set_aside()
        run.progress.say(
            f"other options for the rows ({', '.join(changed)}): they are measured again, after the scan and the "
            f"trials that {run.folder.path} holds; those measured before are kept in {target}"
        )
    if changed or not rows:
        now = {name: getattr(fresh, name) for name in ("command", "options", "prompts", *of_rows)}
        kept = held.without_rows().model_copy(update=now)
        run.folder.save(kept)
        run.folder.write_options(run.config.options)
        return cast("Result", kept)
    return held


def _widened(config: ScanConfig, model: ChatModel, splits: Splits) -> list[str]:
    """Tries the model's own number format on prompts of the job, and says if it was left."""
    if config.dtype != "auto":
        return []
    tried = [prompt for _, prompts in splits.select.items() for prompt in list(prompts)[:TRIED]]
    note = widen_for(model.hf, model.encode(tried, system=config.system))
    return [] if note is None else [note]


def open_model(config: ScanConfig, progress: Progress) -> ChatModel:
    """The model of a job.

    Raises:
        ModelError: it cannot be loaded.
    """
    progress.stage("loading the model", 1)
    model = load_model(
        config.model,
        dtype=config.dtype,
        device=config.device,
        adapter=config.adapter,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
    )
    progress.advance()
    return model


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    packages = ("bures", "torch", "transformers", "tokenizers", "peft", "safetensors", "numpy", "scipy")
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
