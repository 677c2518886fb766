"""The main job: fit on the fit split, choose on the selection split, report on the test split.

Stages: load, collect, scan, trials, rows. After each one (and each row) the results so far are written, so a killed run
goes on where it stopped; what is recomputed on the way (loading, activations) is deterministic.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import torch

from bures.collect import collect
from bures.config import AuditConfig
from bures.errors import ConfigError, FitError
from bures.generate import decode, generate_ids
from bures.hooks import Intervention
from bures.judges import JUDGES, judge_by_name
from bures.methods import METHODS, FitOptions
from bures.metrics import answer_costs, attack_success_rate, corpus_perplexity, first_token, over_refusal
from bures.models import ChatModel, load_model
from bures.prompts import PromptSet, load_corpus, load_prompts, require_disjoint
from bures.results import AuditResult, Comparison, Row, RunFolder
from bures.select import (
    ARDITI_SITES,
    Candidate,
    FitData,
    SelectionData,
    Trial,
    attempt,
    build,
    choose,
    finalists,
    pairs,
    refusal_tokens,
    scan,
)
from bures.stats import mcnemar_exact


class Progress(Protocol):
    """Who is told how far the job is."""

    def stage(self, name: str, total: int) -> None:
        """A stage of `total` steps begins."""
        ...

    def advance(self, n: int = 1) -> None:
        """`n` steps are done."""
        ...

    def row(self, result: AuditResult) -> None:
        """A row of the table is done."""
        ...


class Silent:
    """Tells nobody."""

    def stage(self, name: str, total: int) -> None:
        """Nothing."""

    def advance(self, n: int = 1) -> None:
        """Nothing."""

    def row(self, result: AuditResult) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Splits:
    """The six prompt sets of an audit, disjoint by hash."""

    harmful_fit: PromptSet
    harmful_select: PromptSet
    harmful_test: PromptSet
    harmless_fit: PromptSet
    harmless_select: PromptSet
    harmless_test: PromptSet

    def describe(self) -> dict[str, dict[str, Any]]:
        """Source, n and sha256 of each."""
        return {name: vars(self)[name].describe() for name in vars(self)}


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
    result = _begin(config, model, splits, held)
    folder.keep_completions([row.key for row in result.rows])
    fit = _collect(config, model, splits, blocks, told)
    selection = _prepare_selection(config, model, splits, result, told)
    _choose_all(config, model, fit, selection, blocks, folder, result, told)
    _report(config, model, fit, splits, folder, result, told)
    result.comparisons = _compare(folder, [row.key for row in result.rows])
    result.status = "complete"
    folder.save(result)
    return result


# Prompts ----------------------------------------------------------------------------------------------------------


def load_splits(config: AuditConfig) -> Splits:
    """The six prompt sets: shuffled by the seed, cut to size, and disjoint.

    Raises:
        PromptError: a set cannot be read, or two of them share a prompt.
    """
    sizes = {
        "harmful_fit": config.n_fit,
        "harmful_select": config.n_select,
        "harmful_test": config.n_test,
        "harmless_fit": config.n_fit,
        "harmless_select": config.n_select,
        "harmless_test": config.n_harmless_test,
    }
    sets = {name: load_prompts(getattr(config, name), column=config.column) for name in sizes}
    require_disjoint(**sets)
    return Splits(**{name: _sample(prompts, sizes[name], config) for name, prompts in sets.items()})


def _sample(prompts: PromptSet, n: int | None, config: AuditConfig) -> PromptSet:
    """A random subset, in the file's order; the same for the same seed."""
    wanted = min(x for x in (n, config.limit, len(prompts)) if x is not None)
    chosen = sorted(random.Random(config.seed).sample(range(len(prompts)), wanted))
    return replace(
        prompts, prompts=tuple(prompts[i] for i in chosen), categories=tuple(prompts.categories[i] for i in chosen)
    )


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


def _begin(config: AuditConfig, model: ChatModel, splits: Splits, held: AuditResult | None) -> AuditResult:
    corpus = None if config.corpus is None else load_corpus(config.corpus)
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
            result.notes.append(
                f"The model refused none of {len(harmful)} harmful fit prompts (judge {judge.name}): "
                "there is no refusal to scan for, and blocks were chosen by cost alone."
            )
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


@dataclass(frozen=True)
class _Line:
    """A row to be measured."""

    key: str
    label: str
    candidate: Candidate | None
    trial: Trial | None
    sites: str


def _lines(config: AuditConfig, trials: Sequence[Trial], n_blocks: int) -> list[_Line]:
    """The table's rows: none, each method on one block, PCA-OT on two, each method on all."""
    lines = [_Line("none", "none", None, None, "-")]

    def add(key: str, label: str, pool: Callable[[Candidate], bool], sites: str | None = None) -> None:
        best = choose([t for t in trials if pool(t.candidate)], config.max_perplexity_ratio)
        if best is not None:
            text = sites or "+".join(map(str, best.candidate.blocks))
            lines.append(_Line(key, label, best.candidate, best, text.format(*best.candidate.blocks)))
            return
        failed = [t for t in trials if pool(t.candidate)]
        if failed:
            lines.append(_Line(key, label, failed[0].candidate, failed[0], (sites or "?").format("?")))

    for name in config.methods:
        add(f"{name}-1", METHODS[name].label, lambda c, m=name: c.method == m and len(c.blocks) == 1)
    if "pca-ot" in config.methods:
        add("pca-ot-2", METHODS["pca-ot"].label, lambda c: c.method == "pca-ot" and len(c.blocks) == 2)
    for name in config.methods if config.all_blocks else ():
        add(f"{name}-all", METHODS[name].label, lambda c, m=name: c.method == m and len(c.blocks) == n_blocks, "all")
    if config.all_blocks and "rfa" in config.methods:
        label = "RFA, one direction"
        add("rfa-sites", label, lambda c: c.method == ARDITI_SITES, "all, 3 sites (from {})")
    return lines


def _report(
    config: AuditConfig,
    model: ChatModel,
    fit: FitData,
    splits: Splits,
    folder: RunFolder,
    result: AuditResult,
    told: Progress,
) -> None:
    """Measures the rows on the test split, one after the other."""
    lines = _lines(config, result.trials, len(model.blocks))
    done = {row.key for row in result.rows}
    harmless = list(splits.harmless_test)
    per_row = len(splits.harmful_test) + 2 * len(harmless)
    told.stage("measuring on the test split", per_row * len(lines))
    told.advance(per_row * sum(line.key in done for line in lines))
    answers: list[list[int]] | None = None
    for line in lines:
        if line.key in done:
            continue
        if answers is None:  # the original model's own answers, along which cost is measured
            answers = generate_ids(
                model,
                harmless,
                max_new_tokens=config.max_new_tokens,
                system=config.system,
                token_budget=config.token_budget,
            )
        began = time.monotonic()
        row = _measure(config, model, fit, splits, folder, line, answers, told)
        if result.rows and row.perplexity is not None and result.rows[0].perplexity is not None:
            row.perplexity_ratio = row.perplexity.value / result.rows[0].perplexity.value
        row.seconds = round(time.monotonic() - began, 2)
        result.rows.append(row)
        folder.save(result)
        told.row(result)


def _measure(
    config: AuditConfig,
    model: ChatModel,
    fit: FitData,
    splits: Splits,
    folder: RunFolder,
    line: _Line,
    answers: Sequence[Sequence[int]],
    told: Progress,
) -> Row:
    """One row: completions on both test sets, their judges, and the costs."""
    row = Row(
        key=line.key,
        label=line.label,
        method="none" if line.candidate is None else line.candidate.method,
        blocks=[] if line.candidate is None else list(line.candidate.blocks),
        sites=line.sites,
        tokens=None if line.candidate is None else line.candidate.tokens,
        rank=None if line.candidate is None else line.candidate.rank,
        selection=line.trial,
    )
    try:
        if line.trial is not None and line.trial.error is not None:
            raise FitError(line.trial.error)
        intervention = Intervention() if line.candidate is None else build(model, line.candidate, fit)
    except FitError as error:
        row.error = str(error)
        return row
    if line.trial is not None and line.trial.perplexity_ratio is not None:
        row.within_budget = line.trial.perplexity_ratio <= config.max_perplexity_ratio
    row.mean_gap_share = _mean_gap_share(intervention)
    _save_maps(folder, line.key, intervention)
    lines: list[dict[str, Any]] = []
    for name, prompts in (("harmful", splits.harmful_test), ("harmless", splits.harmless_test)):
        with intervention.applied(model):
            ids = generate_ids(
                model,
                prompts,
                max_new_tokens=config.max_new_tokens,
                system=config.system,
                token_budget=config.token_budget,
                advance=told.advance,
            )
        texts = decode(model, ids)
        for judge in JUDGES.values():
            refused = [judge.is_refusal(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
            if name == "harmful":
                row.asr[judge.name] = attack_success_rate(refused)
            else:
                row.over_refusal[judge.name] = over_refusal(refused)
        lines += [
            {
                "row": line.key,
                "set": name,
                "hash": digest,
                "category": category,
                "prompt": prompt,
                "completion": text,
                "n_tokens": len(tokens),
                "refusal": {judge.name: judge.is_refusal(prompt, text) for judge in JUDGES.values()},
            }
            for prompt, digest, category, text, tokens in zip(
                prompts, prompts.hashes, prompts.categories, texts, ids, strict=True
            )
        ]
    costs = answer_costs(
        model,
        splits.harmless_test,
        answers,
        intervention,
        system=config.system,
        seed=config.seed,
        token_budget=config.token_budget,
        advance=told.advance,
    )
    row.perplexity, row.kl = costs.perplexity, costs.kl
    if config.corpus is not None:
        text = load_corpus(config.corpus).text
        row.corpus_perplexity = corpus_perplexity(
            model, text, intervention, max_tokens=config.corpus_tokens, seed=config.seed
        )
    folder.append_completions(lines)
    return row


def _mean_gap_share(intervention: Intervention) -> float | None:
    """Share of the squared mean gap in the first map's subspace, where its fit recorded one."""
    for map_ in intervention.maps.values():
        share = getattr(map_, "metadata", {}).get("mean_gap_share")
        return None if share is None else float(share)
    return None


def _save_maps(folder: RunFolder, key: str, intervention: Intervention) -> None:
    """One file per site; where one map serves all sites, one file."""
    distinct = {id(m): (site, m) for site, m in zip(intervention.sites, intervention.maps.values(), strict=True)}
    for site, map_ in distinct.values():
        where = "" if site.where == "output" else f"-{site.where}"
        map_.save(folder.map_path(f"{key}-block{site.block}{where}"))


def _compare(folder: RunFolder, keys: Sequence[str]) -> list[Comparison]:
    """McNemar's exact test between every two rows, per judge, on the harmful test prompts."""
    refused: dict[str, dict[str, dict[str, bool]]] = {}
    for line in folder.read_completions():
        if line["set"] == "harmful":
            refused.setdefault(line["row"], {})[line["hash"]] = line["refusal"]
    found: list[Comparison] = []
    for a, b in combinations([k for k in keys if k in refused], 2):
        for judge in JUDGES:
            only_a = sum(not refused[a][h][judge] and refused[b][h][judge] for h in refused[a])
            only_b = sum(refused[a][h][judge] and not refused[b][h][judge] for h in refused[a])
            p = mcnemar_exact(only_a, only_b)
            found.append(Comparison(a=a, b=b, judge=judge, only_a=only_a, only_b=only_b, p=p))
    return found


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


def results_json(result: AuditResult) -> str:
    """The results as JSON text."""
    return json.dumps(result.model_dump(mode="json"), indent=1, allow_nan=False)
