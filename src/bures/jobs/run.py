"""The stages that the jobs share: model, prompts, activations, refusal tokens, scan, localisation."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from bures.data.prompts import PromptSet
from bures.errors import ConfigError
from bures.jobs.config import PASSING, SECRET, ScanConfig
from bures.jobs.progress import Progress
from bures.jobs.scanner import refusal_tokens
from bures.jobs.splits import Splits, described
from bures.judges.base import require_ready
from bures.judges.by_name import judge_by_name
from bures.models.activations import collect
from bures.models.loading import ChatModel, load_model
from bures.models.methods import FitData, FitOptions
from bures.results.run_folder import RunFolder
from bures.results.schema import RunResult

Result = TypeVar("Result", bound=RunResult)


def default_out(config: ScanConfig) -> Path:
    """`runs/<model>-<hash of the options>`: the same command finds its folder again."""
    options = config.model_dump_json(exclude=set(PASSING))
    digest = hashlib.sha256(f"{type(config).__name__} {options}".encode()).hexdigest()[:8]
    return (
        Path("runs") / f"{re.sub(r'[^A-Za-z0-9.]+', '-', Path(config.model).name).strip('-')[:60] or 'model'}-{digest}"
    )


def open_run(config: ScanConfig, schema: type[Result], out: str | Path | None) -> tuple[RunFolder, Result | None]:
    """The run folder of a job, and the result that it holds where the job has been finished."""
    options = config.model_dump(mode="json", exclude={*SECRET, *PASSING})
    folder = RunFolder.open(Path(out) if out is not None else default_out(config), options)
    held = folder.load(schema)
    return folder, held if held is not None and held.status == "complete" else None


def open_model(config: ScanConfig, told: Progress) -> ChatModel:
    """The model of a job.

    Raises:
        ConfigError: the job's judge lacks something.
        ModelError: the model cannot be loaded.
    """
    require_ready(judge_by_name(config.judge))
    told.stage("loading the model", 1)
    model = load_model(
        config.model,
        dtype=config.dtype,
        device=config.device,
        adapter=config.adapter,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
    )
    told.advance()
    return model


def begin(
    schema: type[Result], config: ScanConfig, model: ChatModel, splits: Splits, folder: RunFolder | None, **more: Any
) -> Result:
    """A fresh result, or the one that the folder holds of the same model and prompts.

    Raises:
        ConfigError: the model or the prompts have changed since.
    """
    held = None if folder is None else folder.load(schema)
    fresh = schema(
        command=config.command,
        versions=versions(),
        model=model.describe(),
        prompts=described(splits),
        judge=config.judge,
        seed=config.seed,
        **more,
    )
    if held is None:
        return fresh
    if held.model["fingerprint"] != fresh.model["fingerprint"] or held.prompts != fresh.prompts:
        raise ConfigError("the model or the prompts have changed since the run began; choose another folder with --out")
    return held


def blocks_to_scan(config: ScanConfig, n_blocks: int) -> tuple[int, ...]:
    """The blocks under consideration.

    Raises:
        ConfigError: a block does not exist, or the depth range holds none.
    """
    if config.blocks is not None:
        for block in config.blocks:
            if not 0 <= block < n_blocks:
                raise ConfigError(f"block {block} does not exist in {config.model}; expected 0 to {n_blocks - 1}")
        return tuple(sorted(set(config.blocks)))
    low, high = config.depth
    found = tuple(b for b in range(n_blocks) if low <= (b + 1) / n_blocks <= high)
    if not found:
        raise ConfigError(f"no block of {n_blocks} lies between {low:.0%} and {high:.0%} depth; widen --depth")
    return found


def collect_fit(config: ScanConfig, model: ChatModel, splits: Splits, blocks: Sequence[int], told: Progress) -> FitData:
    """Activations of the fit split."""
    harmful, harmless = splits["harmful_fit"], splits["harmless_fit"]
    told.stage("collecting activations", len(harmful) + len(harmless))
    return FitData(
        source_prompts=tuple(harmful),
        source=activations_of(config, model, harmful, blocks, told),
        target=activations_of(config, model, harmless, blocks, told),
        options=FitOptions(config.ridge, config.shrinkage),
        strength=config.strength,
        system=config.system,
    )


def find_refusal_tokens(config: ScanConfig, model: ChatModel, splits: Splits, result: RunResult) -> None:
    """Fills `result.refusal_tokens` from the model's own refusals on the fit split; notes where there are none."""
    if result.refusal_tokens:
        return
    judge = judge_by_name(config.judge)
    harmful, harmless = list(splits["harmful_fit"])[:64], list(splits["harmless_fit"])[:64]
    result.refusal_tokens = list(refusal_tokens(model, harmful, harmless, judge, system=config.system))
    if not result.refusal_tokens:
        note = (
            f"The model refused none of {len(harmful)} harmful fit prompts (judge {judge.name}): "
            "there is no refusal to scan for, and blocks are ranked by cost alone."
        )
        result.notes = list(dict.fromkeys([*result.notes, note]))


def activations_of(
    config: ScanConfig, model: ChatModel, prompts: PromptSet, blocks: Sequence[int], told: Progress
) -> dict[int, torch.Tensor]:
    """Activations of a prompt set after each block, under the job's options."""
    return collect(
        model,
        prompts,
        blocks=list(blocks),
        system=config.system,
        token_budget=config.token_budget,
        advance=told.advance,
    )


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
