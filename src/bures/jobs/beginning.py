"""How a job begins: its run folder, what it held already, the prompts and the model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any, TypeVar

from bures.errors import ConfigError
from bures.jobs.config import PASSING, ScanConfig
from bures.jobs.progress import Progress
from bures.jobs.run import Run, blocks_to_scan
from bures.jobs.splits import Splits, load_splits
from bures.judges.base import require_ready
from bures.judges.by_name import judge_by_name
from bures.models.loading import ChatModel, load_model
from bures.models.methods import notes_of
from bures.models.precision import widen_for
from bures.results.run_folder import RunFolder
from bures.results.schema import RunResult

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
    """The run folder of a job, and the result that it holds where the job has been finished."""
    folder = RunFolder.open(Path(out) if out is not None else default_out(config), config.options)
    held = folder.load(schema)
    return folder, held if held is not None and held.status == "complete" else None


def start(
    config: Config, schema: type[Result], folder: RunFolder | None, progress: Progress, **more: Any
) -> Run[Config, Result]:
    """Reads the prompts, loads the model, and takes up what the folder holds of the same run.

    Args:
        config: the options.
        schema: of the results.
        folder: where they are kept, if anywhere.
        progress: who is told how far it is.
        more: further fields of a fresh result.

    Raises:
        ConfigError: the judge lacks something, no block is to be scanned, or the model or the prompts have changed
            since the run began.
        ModelError: the model cannot be loaded.
        PromptError: a prompt set cannot be read.
    """
    require_ready(judge_by_name(config.judge))
    splits = load_splits(config)
    model = open_model(config, progress)
    blocks_to_scan(config, len(model.blocks))
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
    held = None if folder is None else folder.load(schema)
    if held is not None and (held.model["fingerprint"] != fresh.model["fingerprint"] or held.prompts != fresh.prompts):
        raise ConfigError("the model or the prompts have changed since the run began; choose another folder with --out")
    run = Run(config, splits, model, held or fresh, folder, progress)
    run.note(*notes)
    return run


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
