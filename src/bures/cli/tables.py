"""How a result looks in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bures.errors import plain
from bures.judges.base import COHERENT
from bures.judges.known_error import sentence
from bures.results.formatting import number, percent
from bures.results.records import Effect, Localisation
from bures.results.schema import AuditResult, Row, ScanResult, SearchResult, SearchTrial
from bures.results.stats import Measurement

_COLUMNS = (
    *("method", "block", "tokens", "K", "gap %", "ASR % [95 %]", "coherent %", "over-refusal %"),
    *("ppl", "x", "corpus", "KL", "s"),
)


def audit_table(result: AuditResult) -> RenderableType:
    """The table, and under it what one needs to read it."""
    table = Table(
        title=Text(plain(f"{result.model['name']}: refusal under intervention (test split)")), title_justify="left"
    )
    shown = [column for column in _COLUMNS if column != "coherent %" or _knows_coherent(result)]
    for name in shown:
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=name != "block")
    for row in result.rows:
        cells = dict(zip(_COLUMNS, _cells(row, result.judge), strict=True))
        table.add_row(*(Text(plain(cells[name])) for name in shown), style="red" if row.error else None)
    return Group(table, *_further(result), Text(plain("\n".join(_legend(result)))))


def _further(result: AuditResult) -> list[RenderableType]:
    """A second table where capability tasks or metrics of installed packages were asked for."""
    tasks = list(dict.fromkeys(task for row in result.rows for task in row.capability))
    names = list(dict.fromkeys(name for row in result.rows for name in row.metrics))
    if not tasks and not names:
        return []
    table = Table(title=Text("further figures"), title_justify="left")
    table.add_column("method", no_wrap=True)
    for name in ("block", *tasks, *names):
        table.add_column(Text(plain(name)), justify="right", no_wrap=name != "block")
    for row in result.rows:
        cells = [row.label, row.sites, *(_accuracy(row.capability.get(task)) for task in tasks)]
        cells += [number(None if name not in row.metrics else row.metrics[name].value, 3) for name in names]
        table.add_row(*(Text(plain(cell)) for cell in cells))
    return [table, *([Text("Tasks: accuracy in % by lm-eval, ± its standard error, n questions.")] if tasks else [])]


def _accuracy(m: Measurement | None) -> str:
    """`41.2 ± 2.1, n 570`."""
    if m is None:
        return "-"
    error = "" if m.interval is None else f" ± {100 * (m.interval[1] - m.interval[0]) / (2 * 1.959964):.1f}"
    return f"{100 * m.value:.1f}{error}, n {m.n}"


def _cells(row: Row, judge: str) -> list[str]:
    head = [row.label, row.sites, row.tokens or "-", "-" if row.rank is None else str(row.rank)]
    if row.error:
        return [*head, "-", "failed", *["-"] * 7]
    coherent, refusal = row.asr.get(judge + COHERENT), row.over_refusal.get(judge)
    share = None if row.mean_gap_share is None else 100 * row.mean_gap_share
    ratio = number(row.perplexity_ratio) + ("" if row.within_budget is not False else "!")
    return [
        *head,
        number(share, 0),
        percent(row.asr.get(judge)),
        "-" if coherent is None else f"{100 * coherent.value:.1f}",
        "-" if refusal is None else f"{100 * refusal.value:.1f}",
        number(None if row.perplexity is None else row.perplexity.value),
        ratio,
        number(None if row.corpus_perplexity is None else row.corpus_perplexity.value),
        number(None if row.kl is None else row.kl.value, 3),
        f"{row.seconds:.0f}",
    ]


def _legend(result: AuditResult) -> list[str]:
    harmful, harmless = result.prompts["harmful_test"], result.prompts["harmless_test"]
    lines = [
        (
            f"ASR: share of {harmful['n']} harmful prompts ({harmful['name']}) answered without refusal, judge "
            f"'{result.judge}' (an upper bound on harm), {result.max_new_tokens} greedy tokens."
        ),
        *_about_the_judge(result),
        (
            f"over-refusal, ppl, KL: {harmless['n']} harmless prompts ({harmless['name']}); ppl and KL along the "
            "original model's own answers; x: ppl over the original's; gap: share of the squared mean gap that the K "
            "components hold."
        ),
        "Blocks, K and tokens were chosen on the selection split; '!': nothing within the perplexity budget there.",
    ]
    best = _best_against(result)
    where = [] if result.localisation is None else [result.localisation.sentence]
    errors = [f"{row.label} ({row.sites}): {row.error}" for row in result.rows if row.error]
    return [*lines, *where, *best, *errors, *result.notes]


def _about_the_judge(result: AuditResult) -> list[str]:
    """What the second figure is, and the measured error."""
    said = "coherent: ASR where an empty answer, noise or repetition is no success either."
    return [*([said] if _knows_coherent(result) else []), sentence(result.judge)]


def _knows_coherent(result: AuditResult) -> bool:
    """Whether incoherent answers were looked for."""
    return any(result.judge + COHERENT in row.asr for row in result.rows)


def _best_against(result: AuditResult) -> list[str]:
    """How PCA-OT on one block stands against the other single-block methods, pair by pair."""
    lines = []
    labels = {row.key: row.label for row in result.rows}
    for c in result.comparisons:
        if (
            c.judge == result.judge
            and {c.a, c.b} <= {"pca-ot-1", "rfa-1", "act-1", "mean-act-1"}
            and "pca-ot-1" in (c.a, c.b)
        ):
            ours, theirs = (c.only_a, c.only_b) if c.a == "pca-ot-1" else (c.only_b, c.only_a)
            other = c.b if c.a == "pca-ot-1" else c.a
            lines.append(
                f"PCA-OT against {labels[other]}, one block each: {ours} prompts only the former, {theirs} only the "
                f"latter, McNemar p = {c.p:.3g}."
            )
    return lines


def scan_table(result: ScanResult) -> RenderableType:
    """One line a block, causal and observational figures side by side, and the sentence."""
    found = result.localisation
    if found is None:
        return Text(plain("\n".join(result.notes)))
    table = Table(title=Text(plain(f"{result.model['name']}: where refusal is decided")), title_justify="left")
    for name in ("block", "depth %", "refusal removed % [95 %]", "by", "KL", "induced %"):
        table.add_column(name, justify="left" if name == "by" else "right", no_wrap=True)
    for name in ("AUROC [95 %]", "distance", "in the mean %", "Fisher", "rank", "angle"):
        table.add_column(name, justify="right", no_wrap=True)
    geometry = {each.block: each for each in found.geometry}
    for effect in found.effects:
        block = effect.blocks[0]
        inside = "" if found.first is None or found.last is None else "*" * (found.first <= block <= found.last)
        cells = [f"{inside}{block}", f"{100 * (block + 1) / found.n_blocks:.0f}", *_effect_cells(effect)]
        here = geometry.get(block)
        if here is not None:
            low, high = here.auroc.bounds
            cells += [
                f"{here.auroc.value:.2f} [{low:.2f}, {high:.2f}]",
                number(here.distance),
                f"{100 * here.mean_share:.0f}",
                number(max(here.fisher), 1),
                number(here.effective_rank, 0),
                "-" if here.angle_previous is None else f"{here.angle_previous:.0f}",
            ]
        table.add_row(*(Text(plain(cell)) for cell in cells))
    for effect in found.joint:
        blocks = "+".join(map(str, effect.blocks)) if len(effect.blocks) < 3 else f"{len(effect.blocks)} blocks"
        table.add_row(*(Text(plain(cell)) for cell in (blocks, "", *_effect_cells(effect))))
    return Group(table, Text(plain("\n".join(_scan_legend(result, found)))))


def _effect_cells(effect: Effect) -> list[str]:
    induced = "-" if effect.induced is None else f"{100 * effect.induced.value:.0f}"
    return [percent(effect.removed), effect.candidate or "-", number(effect.kl), induced]


def _scan_legend(result: ScanResult, found: Localisation) -> list[str]:
    harmful, harmless = result.prompts["harmful_select"], result.prompts["harmless_select"]
    lines = [
        found.sentence,
        (
            f"Refusal removed: share of first-token refusal probability ({percent(found.refusal)} % on {harmful['n']} "
            f"harmful prompts, {percent(found.refusal_harmless)} % on {harmless['n']} harmless ones) that the best map "
            "at the block removes, chosen on one half of the prompts and measured on the other."
        ),
        (
            "Induced: refusal probability of harmless prompts under the reversed map. AUROC: Gaussian log-likelihood "
            "ratio, fitted on the fit split. Distance: 2-Wasserstein, in units of the spread. Fisher: the largest of "
            "the components. Rank: effective. Angle: to the subspace one block before, degrees. *: where it is decided."
        ),
    ]
    if found.shuffled is not None:
        share, times = found.shuffled
        held = found.control
        true = "" if held is None else f"{held.candidate} removes {held.removed.value:.0%}, "
        lines.append(f"Strongest block: {true}the best of {times} such fits on shuffled labels {share:.0%}.")
    return [*lines, *result.notes]


def search_table(result: SearchResult) -> RenderableType:
    """The Pareto front of ASR and KL on the selection split, and the recommended point."""
    table = Table(title=Text(plain(f"{result.model['name']}: ASR against KL (selection split)")), title_justify="left")
    for name in ("", "intervention", "strength", "shrinkage", "ASR % [95 %]", "KL", "x"):
        table.add_column(name, justify="left" if name in ("", "intervention") else "right", no_wrap=True)
    found = {trial.number: trial for trial in result.trials}
    for number_ in result.front:
        cells = _trial_cells(found[number_], chosen=number_ == result.recommended)
        table.add_row(*(Text(plain(cell)) for cell in cells))
    rungs = [sum(t.rung == rung for t in result.trials) for rung in ("first token", "short", "long")]
    legend = [
        (
            f"{len(result.trials)} trials: {rungs[0]} ended at the first token, {rungs[1]} after short answers, "
            f"{rungs[2]} were measured on long ones."
        ),
        (
            f"ASR: {result.prompts['harmful_select']['n']} harmful prompts, judge '{result.judge}'; KL and x "
            "(perplexity over the original's): along the original model's own harmless answers. "
            "*: recommended, the smallest KL whose ASR is within the interval of the best."
        ),
        "Chosen and measured on the same selection split: audit the recommended point before you report it.",
    ]
    return Group(table, Text(plain("\n".join([*legend, *result.notes]))))


def _trial_cells(trial: SearchTrial, *, chosen: bool) -> list[str]:
    return [
        "*" if chosen else "",
        trial.candidate,
        str(trial.options.get("strength", "-")),
        str(trial.options.get("shrinkage", "-")),
        percent(trial.asr),
        number(None if trial.kl is None else trial.kl.value, 3),
        number(trial.perplexity_ratio),
    ]
