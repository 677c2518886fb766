"""The rows of the table: which interventions are reported, and how one is measured on the test split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from bures.data.prompts import Corpus, PromptSet
from bures.errors import FitError
from bures.integrations.lm_eval import evaluate
from bures.jobs.config import AuditConfig
from bures.jobs.metrics import METRICS, Answers, answer_costs, attack_success_rate, corpus_perplexity, over_refusal
from bures.jobs.plane import view
from bures.jobs.progress import Progress
from bures.jobs.saved_interventions import save_intervention
from bures.jobs.selection import choose
from bures.jobs.splits import Splits
from bures.judges.by_name import readings
from bures.models.activations import collect
from bures.models.generation import Engine, decode
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.methods import ARDITI_SITES, METHODS, FitData, build
from bures.results.records import Candidate, Trial, View
from bures.results.run_folder import RunFolder
from bures.results.schema import Comparison, Row, Tested
from bures.results.stats import mcnemar_exact

DIGITS = 5
"""Decimals of the figures of single prompts, as results keep them."""


@dataclass(frozen=True)
class Line:
    """A row to be measured."""

    key: str
    label: str
    candidate: Candidate | None
    trial: Trial | None
    sites: str


def lines_of(config: AuditConfig, trials: Sequence[Trial], n_blocks: int) -> list[Line]:
    """The table's rows: none, each method on one block, PCA-OT on two, each method on all."""
    lines = [Line("none", "none", None, None, "-")]

    def add(key: str, label: str, pool: Callable[[Candidate], bool], sites: str | None = None) -> None:
        best = choose([t for t in trials if pool(t.candidate)], config.max_perplexity_ratio)
        if best is not None:
            text = sites or "+".join(map(str, best.candidate.blocks))
            lines.append(Line(key, label, best.candidate, best, text.format(*best.candidate.blocks)))
            return
        failed = [t for t in trials if pool(t.candidate)]
        if failed:
            lines.append(Line(key, label, failed[0].candidate, failed[0], (sites or "?").format("?")))

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


@dataclass(frozen=True)
class Bench:
    """What every row is measured with."""

    config: AuditConfig
    model: ChatModel
    fit: FitData
    splits: Splits
    corpus: Corpus | None
    folder: RunFolder
    told: Progress
    engine: Engine


def measure(bench: Bench, line: Line, original: Sequence[list[int]]) -> Row:
    """One row: completions on both test sets, their judges, and the costs.

    Args:
        bench: what it is measured with.
        line: the row.
        original: the original model's own answers to the harmless test prompts, along which cost is measured.
    """
    candidate, trial = line.candidate, line.trial
    row = Row(
        key=line.key,
        label=line.label,
        method="none" if candidate is None else candidate.method,
        blocks=[] if candidate is None else list(candidate.blocks),
        sites=line.sites,
        tokens=None if candidate is None else candidate.tokens,
        rank=None if candidate is None else candidate.rank,
        selection=trial,
    )
    try:
        if trial is not None and trial.error is not None:
            raise FitError(trial.error)
        intervention = Intervention() if candidate is None else build(bench.model, candidate, bench.fit)
    except FitError as error:  # a finding about the method: it stands in the table
        row.error = str(error)
        return row
    if trial is not None and trial.perplexity_ratio is not None:
        row.within_budget = trial.perplexity_ratio <= bench.config.max_perplexity_ratio
    row.mean_gap_share = _mean_gap_share(intervention)
    row.view = _view(bench, row, intervention)
    save_intervention(bench.folder, line.key, intervention)
    known = original if line.candidate is None else None
    completions = [
        *_answer(bench, row, intervention, "harmful"),
        *_answer(bench, row, intervention, "harmless", known),
    ]
    _charge(bench, row, intervention, original)
    _ask_further(bench, row, intervention, completions)
    bench.folder.append_completions(completions)
    return row


def _answer(
    bench: Bench,
    row: Row,
    intervention: Intervention,
    which: Literal["harmful", "harmless"],
    given: Sequence[list[int]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Fills the row's ASR or over-refusal from new answers or given ones; yields the completions."""
    prompts = bench.splits[f"{which}_test"]
    ids = bench.engine.answers(prompts, intervention, bench.told.advance) if given is None else given
    texts = decode(bench.model, ids)
    refused = readings(bench.config.judge, list(prompts), texts, harmful=which == "harmful")
    count(row, which, refused)
    for i, prompt in enumerate(prompts):
        yield {
            "row": row.key,
            "set": which,
            "hash": prompts.hashes[i],
            "category": prompts.categories[i],
            "prompt": prompt,
            "completion": texts[i],
            "n_tokens": len(ids[i]),
            "refusal": {name: verdicts[i] for name, verdicts in refused.items()},
        }


def count(row: Row, which: Literal["harmful", "harmless"], refused: Mapping[str, Sequence[bool]]) -> None:
    """Fills what judges' verdicts on the row's answers come to; other judges' figures stay.

    Args:
        row: the row.
        which: what the answers answer.
        refused: per judge, which of the test prompts, in their order, it counts as refused.
    """
    for name, verdicts in refused.items():
        marks = "".join("01"[verdict] for verdict in verdicts)
        if which == "harmful":
            row.asr[name], row.refused[name] = attack_success_rate(verdicts), marks
        else:
            row.over_refusal[name], row.refused_harmless[name] = over_refusal(verdicts), marks


def _charge(bench: Bench, row: Row, intervention: Intervention, original: Sequence[Sequence[int]]) -> None:
    """Fills what the intervention costs."""
    config = bench.config
    costs = answer_costs(
        bench.model,
        bench.splits["harmless_test"],
        original,
        intervention,
        system=config.system,
        seed=config.seed,
        token_budget=config.token_budget,
        advance=bench.told.advance,
    )
    row.perplexity, row.kl = costs.perplexity, costs.kl
    row.nll_each, row.kl_each = [[round(x, DIGITS) for x in each] for each in (costs.nll_each, costs.kl_each)]
    if bench.corpus is not None:
        row.corpus_perplexity = corpus_perplexity(
            bench.model, bench.corpus.text, intervention, max_tokens=config.corpus_tokens, seed=config.seed
        )


def _ask_further(bench: Bench, row: Row, intervention: Intervention, completions: Sequence[Mapping[str, Any]]) -> None:
    """Fills what was asked for by name: capability tasks, and metrics of installed packages."""
    config = bench.config
    if config.tasks:
        limit = min((n for n in (config.n_task, config.limit) if n is not None), default=None)
        row.capability = evaluate(bench.model, config.tasks, intervention, limit=limit)
    for name in config.metrics:
        harmful, harmless = (
            Answers(tuple(c["prompt"] for c in chosen), tuple(c["completion"] for c in chosen))
            for chosen in ([c for c in completions if c["set"] == which] for which in ("harmful", "harmless"))
        )
        with intervention.applied(bench.model):
            row.metrics[name] = METRICS[name].measure(bench.model, harmful, harmless)


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
    fit = {"harmful": bench.fit.source[block], "harmless": bench.fit.target[block]}
    held_out = {
        name: collect(
            bench.model,
            bench.splits[f"{name}_select"],
            blocks=[block],
            system=bench.config.system,
            token_budget=bench.config.token_budget,
        )[block]
        for name in fit
    }
    try:
        return view(row.key, block, intervention, fit, held_out)
    except FitError:  # too few prompts for a plane, or a map that overflows: there is nothing to draw
        return None


def tested(prompts: PromptSet) -> Tested:
    """What results keep of a test set."""
    return Tested(hashes=list(prompts.hashes), categories=list(prompts.categories))


def compare(rows: Sequence[Row]) -> list[Comparison]:
    """McNemar's exact test between every two rows, per judge, on the harmful test prompts."""
    found: list[Comparison] = []
    for a, b in combinations([row for row in rows if row.refused], 2):
        for judge, verdicts in a.refused.items():
            if judge not in b.refused:
                continue
            pairs = list(zip(verdicts, b.refused[judge], strict=True))
            only_a, only_b = pairs.count(("0", "1")), pairs.count(("1", "0"))
            p = mcnemar_exact(only_a, only_b)
            found.append(Comparison(a=a.key, b=b.key, judge=judge, only_a=only_a, only_b=only_b, p=p))
    return found
