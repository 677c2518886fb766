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

from bures.candidates import FitData
from bures.data.prompts import PromptSet
from bures.errors import ConfigError, FitError
from bures.jobs.config import PASSING, SECRET, ScanConfig
from bures.jobs.geometry import geometry
from bures.jobs.localisation import (
    block_effects,
    conclude,
    control,
    needs_more_blocks,
    partners,
    probability,
    removed,
    strongest,
)
from bures.jobs.progress import Progress
from bures.jobs.scanner import Scanner, candidates_at, refusal_tokens, scan_blocks
from bures.jobs.splits import Splits, described
from bures.judges.base import require_ready
from bures.judges.by_name import judge_by_name
from bures.models.activations import collect
from bures.models.loading import ChatModel, load_model
from bures.models.methods import FitOptions
from bures.results.records import Candidate, Effect, Localisation, ScanScore
from bures.results.run_folder import RunFolder
from bures.results.schema import RunResult

Result = TypeVar("Result", bound=RunResult)

SHUFFLES = 19
"""Fits on shuffled labels at the strongest block: a permutation test at the 5 % level."""

MIN_FOR_GEOMETRY = 9
"""Fit prompts on each side below which the blocks' geometry is left out."""


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
        source=_rows(config, model, harmful, blocks, told),
        target=_rows(config, model, harmless, blocks, told),
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


def scan_and_locate(
    config: ScanConfig,
    model: ChatModel,
    fit: FitData,
    splits: Splits,
    blocks: Sequence[int],
    folder: RunFolder,
    result: RunResult,
    told: Progress,
    *,
    induce: bool = False,
) -> list[ScanScore]:
    """Scores every candidate on one block; fills `result.scan` and `result.localisation`."""
    harmful, harmless, budget = splits["harmful_select"], splits["harmless_select"], config.token_budget
    scanner = Scanner(model, fit, harmful, harmless, result.refusal_tokens, induce=induce, token_budget=budget)
    scores = scan_all(config, scanner, blocks, folder, result, told)
    if result.localisation is None:
        result.localisation = locate(config, scanner, splits, scores, told)
        folder.save(result)
    return scores


def scan_all(
    config: ScanConfig,
    scanner: Scanner,
    blocks: Sequence[int],
    folder: RunFolder,
    result: RunResult,
    told: Progress,
) -> list[ScanScore]:
    """Scores every candidate; fills `result.scan`, saved after each block."""
    known = {score.candidate.key: score for score in result.scan}
    per_block = len(candidates_at(0, config.methods, config.ranks, config.scopes))
    told.stage("scanning blocks", per_block * len(blocks))
    scores: list[ScanScore] = []
    for score in scan_blocks(
        scanner, blocks=blocks, methods=config.methods, ranks=config.ranks, scopes=config.scopes, known=known
    ):
        scores.append(score)
        told.advance()
        if len(scores) % per_block == 0 and len(scores) > len(result.scan):
            result.scan = list(scores)
            folder.save(result)
    return scores


def locate(
    config: ScanConfig, scanner: Scanner, splits: Splits, scores: Sequence[ScanScore], told: Progress
) -> Localisation | None:
    """Where refusal is decided, from the scan and the geometry; None where the model refuses nothing."""
    if not scanner.tokens:
        return None
    model, fit = scanner.model, scanner.fit
    blocks = sorted({score.candidate.blocks[0] for score in scores})
    held_out = splits["harmful_select"], splits["harmless_select"]
    told.stage("localising", sum(map(len, held_out)) + 2)
    figures = ()
    if min(len(splits["harmful_fit"]), len(splits["harmless_fit"])) >= MIN_FOR_GEOMETRY:
        source, target = ({block: side[block] for block in blocks} for side in (fit.source, fit.target))
        held = [_rows(config, model, prompts, blocks, told) for prompts in held_out]
        figures = tuple(geometry(source, target, *held))
    told.advance()
    effects = block_effects(scanner.harmful, scores, config.max_kl)
    found = {score.candidate.key: score.candidate for score in scores}
    best = found.get(strongest(effects).candidate or "")
    joint: tuple[Effect, ...] = ()
    if best is not None and needs_more_blocks(effects):
        joint = _joint(scanner, effects, best, blocks)
    shuffled, held = None, control(scanner.harmful, scores, effects, config.max_kl)
    if held is not None:
        drawn = scanner.shuffled(held[0], times=SHUFFLES, seed=config.seed)
        shuffled = max(removed(scanner.harmful, probability(each)).value for each in drawn), SHUFFLES
    told.advance()
    return conclude(
        len(model.blocks),
        scanner.harmful,
        scanner.harmless,
        effects,
        joint,
        None if held is None else held[1],
        shuffled,
        figures,
    )


def _joint(scanner: Scanner, effects: Sequence[Effect], best: Candidate, blocks: Sequence[int]) -> tuple[Effect, ...]:
    """The best map with each of its strongest partners, and on all scanned blocks."""
    found: list[Effect] = []
    for candidate in (*partners(effects, best), Candidate(best.method, tuple(blocks), best.rank, best.tokens)):
        try:
            score = scanner.together(candidate)
        except FitError:  # moved activations that overflow
            continue
        moved = removed(scanner.harmful, probability(score.each))
        found.append(Effect(candidate.blocks, candidate.key, moved, score.first_token_kl))
    return tuple(found)


def _rows(
    config: ScanConfig, model: ChatModel, prompts: PromptSet, blocks: Sequence[int], told: Progress
) -> dict[int, torch.Tensor]:
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
