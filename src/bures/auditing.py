"""The main job: fit on the fit split, choose on the selection split, report on the test split.

Stages: load, collect, scan, trials, rows. After each one (and each row) the results so far are written, so a killed run
goes on where it stopped; what is recomputed on the way (loading, activations) is deterministic.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bures.activations import collect
from bures.config import AuditConfig
from bures.errors import ConfigError
from bures.generation import generate_ids
from bures.hooks import Intervention
from bures.judges import judge_by_name
from bures.methods import METHODS, FitOptions
from bures.metrics import answer_costs, first_token
from bures.models import ChatModel, load_model
from bures.progress import Progress, Silent
from bures.prompts import Corpus, PromptSet, load_corpus
from bures.results import AuditResult, RunFolder
from bures.rows import Bench, compare, lines_of, measure
from bures.select import (
    ARDITI_SITES,
    Candidate,
    FitData,
    SelectionData,
    Trial,
    attempt,
    choose,
    finalists,
    pairs,
    refusal_tokens,
    scan,
)
from bures.splits import Splits, load_splits


def default_out(config: AuditConfig) -> Path:
    """`runs/<model>-<hash of the options>`: the same command finds its folder again."""
    digest = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:8]
    return (
        Path("runs") / f"{re.sub(r'[^A-Za-z0-9.]+', '-', Path(config.model).name).strip('-')[:60] or 'model'}-{digest}"
    )


def audit(config: AuditConfig, out: str | Path | None = None, *, progress: Progress | None = None) -> AuditResult:
    """Runs an audit, or goes on with the one in `out`.

    Args:
        config: the options.
        out: the run folder; default `runs/<model>-<hash of the options>`.
        progress: who is told how far it is.

    Raises:
        BuresError: an input is bad; what was finished stays in the run folder.
    """
    told = progress or Silent()
    folder = RunFolder.open(Path(out) if out is not None else default_out(config), config.model_dump(mode="json"))
    held = folder.load()
    if held is not None and held.status == "complete":
        return held
    splits = load_splits(config)
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
    blocks = blocks_to_scan(config, len(model.blocks))
    corpus = None if config.corpus is None else load_corpus(config.corpus)
    result = _begin(config, model, splits, corpus, held)
    folder.keep_completions([row.key for row in result.rows])
    fit = _collect(config, model, splits, blocks, told)
    selection = _prepare_selection(config, model, splits, result, told)
    _choose_all(config, model, fit, selection, blocks, folder, result, told)
    _report(Bench(config, model, fit, splits, corpus, folder, told), result)
    result.comparisons = compare(folder, [row.key for row in result.rows])
    result.status = "complete"
    folder.save(result)
    return result


def blocks_to_scan(config: AuditConfig, n_blocks: int) -> tuple[int, ...]:
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


# Stages -----------------------------------------------------------------------------------------------------------


def _begin(
    config: AuditConfig, model: ChatModel, splits: Splits, corpus: Corpus | None, held: AuditResult | None
) -> AuditResult:
    fresh = AuditResult(
        versions=versions(),
        model=model.describe(),
        prompts=splits.describe(),
        corpus=None if corpus is None else {"name": corpus.name, "source": corpus.source, "sha256": corpus.sha256},
        judge=config.judge,
        seed=config.seed,
        max_new_tokens=config.max_new_tokens,
    )
    if held is None:
        return fresh
    if held.model["fingerprint"] != fresh.model["fingerprint"] or held.prompts != fresh.prompts:
        raise ConfigError("the model or the prompts have changed since the run began; choose another folder with --out")
    return held


def _collect(config: AuditConfig, model: ChatModel, splits: Splits, scanned: Sequence[int], told: Progress) -> FitData:
    blocks = range(len(model.blocks)) if config.all_blocks else scanned
    told.stage("collecting activations", len(splits.harmful_fit) + len(splits.harmless_fit))

    def rows(prompts: PromptSet) -> dict[int, torch.Tensor]:
        return collect(
            model,
            prompts,
            blocks=list(blocks),
            system=config.system,
            token_budget=config.token_budget,
            advance=told.advance,
        )

    return FitData(
        source_prompts=tuple(splits.harmful_fit),
        source=rows(splits.harmful_fit),
        target=rows(splits.harmless_fit),
        options=FitOptions(config.ridge, config.shrinkage),
        strength=config.strength,
        system=config.system,
    )


def _prepare_selection(
    config: AuditConfig, model: ChatModel, splits: Splits, result: AuditResult, told: Progress
) -> SelectionData:
    """What the original model says on the fit and selection splits."""
    told.stage("asking the original model", 3)
    judge = judge_by_name(config.judge)
    if not result.refusal_tokens:
        harmful, harmless = list(splits.harmful_fit)[:64], list(splits.harmless_fit)[:64]
        result.refusal_tokens = list(refusal_tokens(model, harmful, harmless, judge, system=config.system))
        if not result.refusal_tokens:
            note = (
                f"The model refused none of {len(harmful)} harmful fit prompts (judge {judge.name}): "
                "there is no refusal to scan for, and blocks were chosen by cost alone."
            )
            result.notes = list(dict.fromkeys([*result.notes, note]))
    told.advance()
    harmless = list(splits.harmless_select)
    answers = generate_ids(
        model, harmless, max_new_tokens=config.select_tokens, system=config.system, token_budget=config.token_budget
    )
    told.advance()
    original = answer_costs(model, harmless, answers, Intervention(), system=config.system)
    first = first_token(model, harmless, Intervention(), system=config.system, token_budget=config.token_budget)
    told.advance()
    return SelectionData(
        harmful=list(splits.harmful_select),
        harmless=harmless,
        harmless_answers=answers,
        original=original,
        first_harmless=first,
        refusal_tokens=result.refusal_tokens,
        judge=judge,
        max_new_tokens=config.select_tokens,
        system=config.system,
    )


def _choose_all(
    config: AuditConfig,
    model: ChatModel,
    fit: FitData,
    selection: SelectionData,
    blocks: Sequence[int],
    folder: RunFolder,
    result: AuditResult,
    told: Progress,
) -> None:
    """Scan and trials; fills `result.scan` and `result.trials`."""
    known = {score.candidate.key: score for score in result.scan}
    per_block = sum((len(config.ranks) if METHODS[m].ranked else 1) * len(config.scopes) for m in config.methods)
    told.stage("scanning blocks", per_block * len(blocks))
    scores = []
    for score in scan(
        model,
        fit,
        selection,
        blocks=blocks,
        methods=config.methods,
        ranks=config.ranks,
        scopes=config.scopes,
        known=known,
    ):
        scores.append(score)
        told.advance()
        if len(scores) % per_block == 0 and len(scores) > len(result.scan):
            result.scan = list(scores)
            folder.save(result)
    tried = {trial.candidate.key: trial for trial in result.trials}

    def attempt_all(candidates: Sequence[Candidate], what: str) -> None:
        told.stage(what, len(candidates))
        for candidate in candidates:
            if candidate.key not in tried:
                tried[candidate.key] = attempt(model, candidate, fit, selection)
                result.trials = list(tried.values())
                folder.save(result)
            told.advance()

    attempt_all(finalists(scores), "trying single blocks")
    if "pca-ot" in config.methods:
        attempt_all(pairs(scores, result.trials, config.max_perplexity_ratio), "trying pairs of blocks")
    if config.all_blocks:
        attempt_all(_on_all_blocks(config, result.trials, len(model.blocks)), "trying all blocks")


def _on_all_blocks(config: AuditConfig, trials: Sequence[Trial], n_blocks: int) -> list[Candidate]:
    """Every method on the whole network, and RFA's one direction at three sites, at every scope."""
    found: list[Candidate] = []
    for method in config.methods:
        best = choose(
            [t for t in trials if t.candidate.method == method and len(t.candidate.blocks) == 1], float("inf")
        )
        rank = None if best is None else best.candidate.rank
        found += [Candidate(method, tuple(range(n_blocks)), rank, scope) for scope in config.scopes]
        if method == "rfa" and best is not None:
            found += [Candidate(ARDITI_SITES, best.candidate.blocks, None, scope) for scope in config.scopes]
    return found


def _report(bench: Bench, result: AuditResult) -> None:
    """Measures the rows on the test split, one after the other."""
    lines = lines_of(bench.config, result.trials, len(bench.model.blocks))
    done = {row.key for row in result.rows}
    harmless = bench.splits.harmless_test
    per_row = len(bench.splits.harmful_test) + 2 * len(harmless)
    bench.told.stage("measuring on the test split", per_row * sum(line.key not in done for line in lines))
    original: list[list[int]] = []
    for line in lines:
        if line.key in done:
            continue
        original = original or generate_ids(
            bench.model,
            harmless,
            max_new_tokens=bench.config.max_new_tokens,
            system=bench.config.system,
            token_budget=bench.config.token_budget,
        )
        began = time.monotonic()
        row = measure(bench, line, original)
        if result.rows and row.perplexity is not None and result.rows[0].perplexity is not None:
            row.perplexity_ratio = row.perplexity.value / result.rows[0].perplexity.value
        row.seconds = round(time.monotonic() - began, 2)
        result.rows.append(row)
        bench.folder.save(result)
        bench.told.row(result)


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
