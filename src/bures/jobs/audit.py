"""The main job: fit on the fit split, choose on the selection split, report on the test split.

Stages: load, collect, scan, localise, trials, the best of them again, rows. After each one (and each trial and row) the
results so far are written, so a killed run goes on where it stopped; what is recomputed on the way (loading,
activations) is deterministic.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from bures import durable
from bures.data.prompts import Corpus, load_corpus
from bures.jobs import capability
from bures.jobs.audit_rows import Bench, measure, planned_rows, tested
from bures.jobs.beginning import open_run, start
from bures.jobs.config import AuditConfig
from bures.jobs.counting import about_cut
from bures.jobs.engines import backend_of
from bures.jobs.metrics import corpus_windows
from bures.jobs.plane import about_leading_away
from bures.jobs.progress import Progress, Silent
from bures.jobs.protocols import about_protocol
from bures.jobs.run import Run
from bures.jobs.scan import scan_and_locate
from bures.jobs.selection import try_all
from bures.jobs.trying_again import try_again
from bures.judges.languages import unmeasured_note
from bures.models.checkpoints import adapter_folder
from bures.models.generation import HereEngine
from bures.models.intervention import Intervention
from bures.results.row_comparisons import between_rows, perplexity_over
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
    with open_run(config, AuditResult, out) as (folder, done):
        return done or _carry_out(config, folder, progress or Silent())


def _carry_out(config: AuditConfig, folder: RunFolder, progress: Progress) -> AuditResult:
    further = {**capability.prepare(config.tasks), **backend_of(config.backend).prepare()}
    corpus = None if config.corpus is None else load_corpus(config.corpus)
    described = None if corpus is None else {"name": corpus.name, "source": corpus.source, "sha256": corpus.sha256}
    run = start(
        config,
        AuditResult,
        folder,
        progress,
        [] if corpus is None else [partial(corpus_windows, text=corpus.text, max_tokens=config.corpus_tokens)],
        corpus=described,
        max_new_tokens=config.max_new_tokens,
    )
    run.result.versions |= further
    run.note(*about_protocol(config.options), *about_kept_text(config.adapter, corpus))
    folder.keep_completions([row.key for row in run.result.rows])
    try_all(run, scan_and_locate(run))
    try_again(run)
    _report(run, corpus, folder)
    run.result.row_comparisons = between_rows(run.result.rows)
    run.note(*about_cut(run.result), *about_leading_away(run.result.rows))
    unmeasured = unmeasured_note(line["completion"] for line in folder.read_completions())
    run.note(*([] if unmeasured is None else [unmeasured]))
    return run.finish()


def about_kept_text(adapter: str | None, corpus: Corpus | None) -> list[str]:
    """Says where the adapter was trained to keep its perplexity on the very text on which it is measured."""
    if adapter is None or corpus is None:
        return []
    try:
        data = durable.read_object(adapter_folder(adapter) / "recipe.json").get("data")
    except (OSError, ValueError):  # an adapter that bures did not train says nothing of its text
        return []
    text = data.get("text") if isinstance(data, dict) else None
    if not isinstance(text, dict) or text.get("sha256") != corpus.sha256:
        return []
    said = f"The adapter was trained to keep its perplexity on {corpus.name}, on which it is measured here"
    return [f"{said}: that says nothing of other text; give another with --corpus."]


def _report(run: Run[AuditConfig, AuditResult], corpus: Corpus | None, folder: RunFolder) -> None:
    """Measures the rows on the test split, one after the other."""
    result, test = run.result, run.splits.tested
    result.tested = {side: tested(prompts) for side, prompts in test.items()}
    done = {row.key for row in result.rows}
    planned = [row for row in planned_rows(run.config, result.trials, len(run.model.blocks)) if row.key not in done]
    per_row = len(test.harmful) + 2 * len(test.harmless)
    run.progress.stage("measuring on the test split", per_row * len(planned))
    here = HereEngine(run.model, run.config.max_new_tokens, run.config.system, run.config.token_budget)
    with backend_of(run.config.backend).engine(run.config, here, [*test.harmful, *test.harmless]) as engine:
        bench = Bench(run, engine, corpus, folder)
        original = engine.answers(test.harmless, Intervention()) if planned else []
        for plan in planned:
            result.answer_tokens = [len(answer) for answer in original]
            began = time.monotonic()
            row = measure(bench, plan, original)
            if result.rows and row.perplexity is not None and result.rows[0].perplexity is not None:
                row.perplexity_ratio = row.perplexity.value / result.rows[0].perplexity.value
                ratio = perplexity_over(row, result.rows[0], result.answer_tokens)
                row.perplexity_ratio_interval = None if ratio is None else ratio.interval
            row.seconds = round(time.monotonic() - began, 2)
            result.rows.append(row)
            run.note(*engine.notes)
            run.save()
            run.progress.row(result)
