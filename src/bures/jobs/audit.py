"""The main job: fit on the fit split, choose on the selection split, report on the test split.

Stages: load, collect, scan, localise, trials, rows. After each one (and each row) the results so far are written, so a
killed run goes on where it stopped; what is recomputed on the way (loading, activations) is deterministic.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bures.data.prompts import load_corpus
from bures.integrations import lm_eval, vllm_engine
from bures.jobs.audit_rows import Bench, compare, lines_of, measure, tested
from bures.jobs.config import AuditConfig
from bures.jobs.progress import Progress, Silent
from bures.jobs.run import begin, blocks_to_scan, collect_fit, find_refusal_tokens, open_model, open_run
from bures.jobs.scan import scan_and_locate
from bures.jobs.selection import SelectionData, ask_original, attempt, choose, finalists, pairs, single_block
from bures.jobs.splits import Splits, load_splits
from bures.judges.by_name import judge_by_name
from bures.models.generation import Engine, HereEngine
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.methods import ARDITI_SITES, FitData
from bures.results.records import Candidate, ScanScore, Trial
from bures.results.run_folder import RunFolder
from bures.results.schema import AuditResult


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
    folder, done = open_run(config, AuditResult, out)
    if done is not None:
        return done
    further = lm_eval.prepare(config.tasks) if config.tasks else {}
    if config.backend == "vllm":
        further |= vllm_engine.prepare()
    splits = load_splits(config)
    model = open_model(config, told)
    blocks = blocks_to_scan(config, len(model.blocks))
    corpus = None if config.corpus is None else load_corpus(config.corpus)
    described = None if corpus is None else {"name": corpus.name, "source": corpus.source, "sha256": corpus.sha256}
    result = begin(AuditResult, config, model, splits, folder, corpus=described, max_new_tokens=config.max_new_tokens)
    result.versions |= further
    folder.keep_completions([row.key for row in result.rows])
    fit = collect_fit(config, model, splits, range(len(model.blocks)) if config.all_blocks else blocks, told)
    find_refusal_tokens(config, model, splits, result)
    scores = scan_and_locate(config, model, fit, splits, blocks, folder, result, told)
    selection = _prepare_selection(config, model, splits, told)
    _try_all(config, model, fit, selection, scores, folder, result, told)
    with _engine(config, model, splits) as engine:
        _report(Bench(config, model, fit, splits, corpus, folder, told, engine), result)
    result.comparisons = compare(result.rows)
    result.finish()
    folder.save(result)
    return result


# Stages -----------------------------------------------------------------------------------------------------------


def _prepare_selection(config: AuditConfig, model: ChatModel, splits: Splits, told: Progress) -> SelectionData:
    """What the original model says on the selection split."""
    told.stage("asking the original model", 2)
    found = ask_original(
        model,
        list(splits["harmful_select"]),
        list(splits["harmless_select"]),
        judge_by_name(config.judge),
        max_new_tokens=config.select_tokens,
        system=config.system,
        token_budget=config.token_budget,
        told=told,
    )
    told.advance()
    return found


def _try_all(
    config: AuditConfig,
    model: ChatModel,
    fit: FitData,
    selection: SelectionData,
    scores: Sequence[ScanScore],
    folder: RunFolder,
    result: AuditResult,
    told: Progress,
) -> None:
    """Short answers of the scan's best, of pairs and of all blocks; fills `result.trials`."""
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
        best = choose(single_block(trials, method), float("inf"))
        rank = None if best is None else best.candidate.rank
        found += [Candidate(method, tuple(range(n_blocks)), rank, scope) for scope in config.scopes]
        if method == "rfa" and best is not None:
            found += [Candidate(ARDITI_SITES, best.candidate.blocks, None, scope) for scope in config.scopes]
    return found


@contextmanager
def _engine(config: AuditConfig, model: ChatModel, splits: Splits) -> Iterator[Engine]:
    """Who answers the test prompts."""
    here = HereEngine(model, config.max_new_tokens, config.system, config.token_budget)
    if config.backend == "transformers":
        yield here
        return
    with vllm_engine.VllmEngine(config, here, [*splits["harmful_test"], *splits["harmless_test"]]) as engine:
        yield engine


def _report(bench: Bench, result: AuditResult) -> None:
    """Measures the rows on the test split, one after the other."""
    lines = lines_of(bench.config, result.trials, len(bench.model.blocks))
    result.tested = {
        "harmful": tested(bench.splits["harmful_test"]),
        "harmless": tested(bench.splits["harmless_test"]),
    }
    done = {row.key for row in result.rows}
    harmless = bench.splits["harmless_test"]
    per_row = len(bench.splits["harmful_test"]) + 2 * len(harmless)
    bench.told.stage("measuring on the test split", per_row * sum(line.key not in done for line in lines))
    original: list[list[int]] = []
    for line in lines:
        if line.key in done:
            continue
        original = original or bench.engine.answers(harmless, Intervention())
        result.answer_tokens = [len(answer) for answer in original]
        began = time.monotonic()
        row = measure(bench, line, original)
        if result.rows and row.perplexity is not None and result.rows[0].perplexity is not None:
            row.perplexity_ratio = row.perplexity.value / result.rows[0].perplexity.value
        row.seconds = round(time.monotonic() - began, 2)
        result.rows.append(row)
        result.notes = list(dict.fromkeys([*result.notes, *bench.engine.notes]))
        bench.folder.save(result)
        bench.told.row(result)
