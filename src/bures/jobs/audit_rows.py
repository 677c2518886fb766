"""The rows of the table: which interventions are reported, and how one is measured on the test split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bures.data.conversations import as_prompt, asked
from bures.data.prompts import Corpus, PromptSet
from bures.errors import FitError
from bures.jobs.capability import evaluate
from bures.jobs.config import AuditConfig
from bures.jobs.counting import Line, completion_lines, count, count_cut
from bures.jobs.further_metrics import METRICS, Answers
from bures.jobs.metrics import AnswerCosts, along_text
from bures.jobs.plane import view
from bures.jobs.run import Run
from bures.jobs.saved_interventions import save_intervention
from bures.jobs.selection import pools, settle
from bures.jobs.splits import Side
from bures.judges.by_name import readings
from bures.models.along import Along
from bures.models.generation import Engine, HereEngine, read
from bures.models.intervention import Intervention
from bures.models.methods import METHODS
from bures.results.records import Candidate, Placement, Trial, View
from bures.results.run_folder import RunFolder
from bures.results.schema import AuditResult, Row, Tested
from bures.results.stats import Measurement

DIGITS = 5
"""Decimals of the figures of single prompts, as results keep them."""


@dataclass(frozen=True)
class PlannedRow:
    """A row to be measured.

    Attributes:
        key: its name in results and files.
        label: its method in the table.
        sites: where its maps are, in the table.
        trial: what was chosen for it on the selection split; None for the model as it is.
    """

    key: str
    label: str
    sites: str
    trial: Trial | None = None

    @property
    def candidate(self) -> Candidate | None:
        """What is measured; None: the model as it is."""
        return None if self.trial is None else self.trial.candidate


_SITES: Mapping[Placement, str | None] = {"one": None, "two": None, "all": "all", "sites": "all, 3 sites (from {})"}
"""Where a placement's maps are, in the table; None: the candidate's blocks. {} is the block that the map is from."""

_SUFFIX: Mapping[Placement, str] = {"one": "1", "two": "2", "all": "all", "sites": "sites"}
"""What the key of a placement's row ends with."""


def planned_rows(config: AuditConfig, trials: Sequence[Trial], n_blocks: int) -> list[PlannedRow]:
    """The table's rows: none, then every method on one block, on two, on all and at three sites, where it has that."""
    rows = [_planned(*each, config.max_perplexity_ratio) for each in pools(config, trials, n_blocks)]
    return [PlannedRow("none", "none", "-"), *rows]


def _planned(name: str, placement: Placement, pool: Sequence[Trial], budget: float) -> PlannedRow:
    """The row of a method at a placement, chosen among the trials there."""
    best = settle(pool, budget)
    if best is None:
        sites = (_SITES[placement] or "?").format("?")
    else:
        sites = (_SITES[placement] or "+".join(map(str, best.candidate.blocks))).format(*best.candidate.blocks)
    return PlannedRow(f"{name}-{_SUFFIX[placement]}", METHODS[name].label_at(placement), sites, best or pool[0])


@dataclass(frozen=True)
class Bench:
    """What every row is measured with.

    Attributes:
        run: the audit.
        engine: who answers the test prompts.
        corpus: plain text, where perplexity of some is asked for.
        folder: where maps and completions go.
        held: what the costs of all rows share.
    """

    run: Run[AuditConfig, AuditResult]
    engine: Engine
    corpus: Corpus | None
    folder: RunFolder
    held: dict[str, Along] = field(default_factory=dict[str, Along])


def measure(bench: Bench, plan: PlannedRow, original: Sequence[list[int]]) -> Row:
    """One row: completions on both test sets, their judges, and the costs.

    Args:
        bench: what it is measured with.
        plan: the row.
        original: the original model's own answers to the harmless test prompts, along which cost is measured.
    """
    candidate, trial = plan.candidate, plan.trial
    row = Row(
        key=plan.key,
        label=plan.label,
        method="none" if candidate is None else candidate.method,
        blocks=[] if candidate is None else list(candidate.blocks),
        sites=plan.sites,
        tokens=None if candidate is None else candidate.tokens,
        rank=None if candidate is None else candidate.rank,
        selection=trial,
    )
    if candidate is None:
        return _measured(bench, row, Intervention(), original)
    try:
        if trial is not None and trial.error is not None:
            raise FitError(trial.error)
        return _measured(bench, row.model_copy(), bench.run.build(candidate), original)
    except FitError as error:  # a finding about the method: it stands in the table
        return row.model_copy(update={"error": str(error)})


def _measured(bench: Bench, row: Row, intervention: Intervention, original: Sequence[list[int]]) -> Row:
    """Fills the row.

    Raises:
        NumericsError: the model's numbers overflow under the intervention.
    """
    if row.selection is not None and row.selection.perplexity_ratio is not None:
        row.within_budget = row.selection.perplexity_ratio <= bench.run.config.max_perplexity_ratio
    row.mean_gap_share = _mean_gap_share(intervention)
    row.view = _view(bench, row, intervention)
    save_intervention(bench.folder, row.key, intervention)
    harmful = _asked(bench, "harmful", intervention)
    costs = _charge(bench, row, intervention, original)
    harmless = costs.answers or (_asked(bench, "harmless", intervention) if intervention.maps else original)
    completions = [*_read(bench, row, "harmful", harmful), *_read(bench, row, "harmless", harmless)]
    _ask_further(bench, row, intervention, completions)
    bench.folder.append_completions(completions)
    return row


def _asked(bench: Bench, which: Side, intervention: Intervention) -> Sequence[list[int]]:
    """Answers to a side of the test split; those of this process go on from what is held of the original model."""
    run, engine = bench.run, bench.engine
    prompts = getattr(run.splits.tested, which)
    if which == "harmless" or not isinstance(engine, HereEngine):
        return engine.answers(prompts, intervention, run.progress.advance)
    if "asked" not in bench.held:
        bench.held["asked"] = run.asking(prompts)
    return run.answer(prompts, run.config.max_new_tokens, intervention, run.progress.advance, along=bench.held["asked"])


def _read(bench: Bench, row: Row, which: Side, ids: Sequence[list[int]]) -> Iterator[Line]:
    """Fills the row's ASR or over-refusal from answers; yields the completions."""
    prompts = getattr(bench.run.splits.tested, which)
    answers = [read(bench.run.model, each) for each in ids]
    finished = [answer.finished for answer in answers]
    texts = [answer.text for answer in answers]
    headline, harmful = bench.run.config.judge, which == "harmful"
    refused = readings(headline, list(prompts), texts, harmful=harmful, finished=finished)
    count(row, which, refused)
    count_cut(row, which, answers)
    yield from completion_lines((row.key, which), prompts, list(zip(answers, ids, strict=True)), refused)


def _charge(bench: Bench, row: Row, intervention: Intervention, original: Sequence[Sequence[int]]) -> AnswerCosts:
    """Fills what the intervention costs; finds what it answers on the way, where the answers are of this process."""
    run = bench.run
    harmless = list(run.splits.tested.harmless)
    if "answers" not in bench.held:
        bench.held["answers"] = run.along(harmless, original)
    most = run.config.max_new_tokens if intervention.maps and isinstance(bench.engine, HereEngine) else None
    costs = run.costs(
        harmless, original, intervention, bench.held["answers"], run.progress.advance, max_new_tokens=most
    )
    if costs.answers is not None:
        run.progress.advance(len(harmless))
    row.perplexity, row.kl = costs.perplexity, costs.kl
    row.nll_each, row.kl_each = [[round(x, DIGITS) for x in each] for each in (costs.nll_each, costs.kl_each)]
    if bench.corpus is not None:
        row.corpus_perplexity = _corpus_perplexity(bench, bench.corpus, intervention)
    return costs


def _corpus_perplexity(bench: Bench, corpus: Corpus, intervention: Intervention) -> Measurement:
    """Of plain text, which the scopes `last` and `generated` leave alone: then it is the original's."""
    run, rows = bench.run, bench.run.result.rows
    if intervention.tokens in ("last", "generated") and rows and rows[0].corpus_perplexity is not None:
        return rows[0].corpus_perplexity
    if "text" not in bench.held:
        bench.held["text"] = along_text(run.model, corpus.text, max_tokens=run.config.corpus_tokens)
    return run.perplexity(corpus, run.config.corpus_tokens, intervention, bench.held["text"])


def _ask_further(bench: Bench, row: Row, intervention: Intervention, completions: Sequence[Mapping[str, Any]]) -> None:
    """Fills what was asked for by name: capability tasks, and metrics of installed packages."""
    config, model = bench.run.config, bench.run.model
    if config.tasks:
        limit = min((n for n in (config.n_task, config.limit) if n is not None), default=None)
        row.capability = evaluate(model, config.tasks, intervention, limit=limit)
    for name in config.metrics:
        harmful, harmless = (
            Answers(
                tuple(asked(as_prompt(c["prompt"], "prompt")) for c in chosen), tuple(c["completion"] for c in chosen)
            )
            for chosen in ([c for c in completions if c["set"] == which] for which in ("harmful", "harmless"))
        )
        with intervention.applied(model):
            row.metrics[name] = METRICS[name].measure(model, harmful, harmless)


def _mean_gap_share(intervention: Intervention) -> float | None:
    """Share of the squared mean gap in the first map's subspace, where its fit recorded one."""
    for map_ in intervention.maps.values():
        share = getattr(map_, "metadata", {}).get("mean_gap_share")
        return None if share is None else float(share)
    return None


def _view(bench: Bench, row: Row, intervention: Intervention) -> View | None:
    """What one map after one block does to the selection split's activations."""
    if [*intervention.maps] != row.blocks or len(row.blocks) != 1:
        return None
    (block,) = row.blocks
    fit = {"harmful": bench.run.fit.source[block], "harmless": bench.run.fit.target[block]}
    held_out = {side: rows[block] for side, rows in bench.run.held_out.items()}
    try:
        return view(row.key, block, intervention, fit, held_out)
    except FitError:  # too few prompts for a plane, or a map that overflows: there is nothing to draw
        return None


def tested(prompts: PromptSet) -> Tested:
    """What results keep of a test set."""
    return Tested(hashes=list(prompts.hashes), categories=list(prompts.categories))
