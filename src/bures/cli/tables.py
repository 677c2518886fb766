"""How a result looks in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType

from bures.cli.fitted import Fitted, columns, words
from bures.judges.known_error import ranges_sentence, sentence
from bures.report.kit.text import named
from bures.report.pages.audit import cautions, finding
from bures.report.words import is_baseline
from bures.results.brief import audit_brief, has_unfinished, knows_coherent, scan_brief, search_brief
from bures.results.formatting import (
    number,
    p_equals,
    percent,
    share,
    with_error,
)
from bures.results.kinds import refused_by_kind
from bures.results.records import Localisation
from bures.results.schema import AuditResult, RowComparison, ScanResult, SearchResult
from bures.results.stats import Measurement

_SPARE = ("s", "corpus", "ppl", "gap %", "method", "tokens", "coherent %", "over-refusal %")
"""What a narrow terminal can do without, the first one first."""


def audit_table(result: AuditResult) -> RenderableType:
    """What was found and what to read with care, the table, and what one needs to read it."""
    brief = audit_brief(result)
    table = Fitted(brief.title, columns(*brief.header, left=("row", "method"), wraps=("method", "block"), spare=_SPARE))
    for row, cells in zip(result.rows, brief.rows, strict=True):
        table.add(cells, style="red" if row.error else None)
    return Group(
        words(finding(result), style="bold"), words(*cautions(result), ""), table, *_further(result), _under(result)
    )


def _under(result: AuditResult) -> RenderableType:
    """Under the table: what was found besides, then what the columns are, then notes."""
    where = [] if result.localisation is None else [result.localisation.sentence]
    errors = [f"{row.label} ({row.sites}): {row.error}" for row in result.rows if row.error]
    return words(*where, *_best_against(result), *errors, *result.notes, "", *_legend(result))


def _further(result: AuditResult) -> list[RenderableType]:
    """A second table where capability tasks or metrics of installed packages were asked for."""
    tasks = list(dict.fromkeys(task for row in result.rows for task in row.capability))
    names = list(dict.fromkeys(name for row in result.rows for name in row.metrics))
    if not tasks and not names:
        return []
    figures = (*tasks, *names)
    fitted = columns("row", "block", *figures, left=("row",), wraps=("row", "block"), spare=figures[::-1])
    table = Fitted("further figures", fitted)
    for row in result.rows:
        cells = [row.key, row.sites, *(_accuracy(row.capability.get(task)) for task in tasks)]
        table.add([*cells, *(number(row.metrics.get(name), 3) for name in names)])
    return [table, *([words("Tasks: accuracy in % by lm-eval, ± its standard error, n questions.")] if tasks else [])]


def _accuracy(m: Measurement | None) -> str:
    """`41.2 ± 2.1, n 570`."""
    return with_error(m) if m is None else f"{with_error(m)}, n {m.n}"


def _legend(result: AuditResult) -> list[str]:
    harmful, harmless = result.prompts["harmful_test"], result.prompts["harmless_test"]
    return [
        (
            f"ASR: share of {harmful['n']} harmful prompts ({harmful['name']}) answered without refusal, judge "
            f"'{result.judge}' (which asks for refusal, not for harm), {result.max_new_tokens} greedy tokens."
        ),
        *_about_the_judge(result),
        (
            f"over-refusal, ppl, KL: {harmless['n']} harmless prompts ({harmless['name']}); ppl and KL along the "
            "original model's own answers; x: ppl over the original's; gap: share of the squared mean gap that the K "
            "components hold."
        ),
        f"Blocks, K, tokens: chosen on the selection split (protocol {result.protocol}); '!': none within budget.",
        *_again(result, "The best of every choice"),
    ]


def _about_the_judge(result: AuditResult) -> list[str]:
    """What the second figure is, and the measured error."""
    said = "coherent: ASR where an empty answer, noise or repetition is no success either."
    cut = "unfinished: answers cut before they said anything, in brackets the ASR if none of them counts and if all do."
    return [
        *([cut] if has_unfinished(result) else []),
        *([said] if knows_coherent(result) else []),
        sentence(result.judge),
        *_ranges(result),
        *_kinds(result),
    ]


def _kinds(result: AuditResult) -> list[str]:
    """Over-refusal by kind of harmless prompt, of the first row, where the file names kinds."""
    tested = result.tested.get("harmless")
    row = next((row for row in result.rows if result.judge in row.refused_harmless), None)
    if tested is None or row is None or len(row.refused_harmless[result.judge]) != len(tested.categories):
        return []
    found = refused_by_kind(row.refused_harmless[result.judge], tested.categories)
    shares = "; ".join(f"{named(kind, 60)} {share(m, 0)} of {m.n}" for kind, m in found.items())
    return [f"Over-refusal by kind of prompt, {row.label}: {shares}."] if found else []


def _ranges(result: AuditResult) -> list[str]:
    """The ASR of the first row and of the largest one under every measured error of the judge."""
    rows = [row for row in result.rows if result.judge in row.asr]
    if not rows:
        return []
    most = max(rows, key=lambda row: row.asr[result.judge].value)
    ends = {row.label if row.sites == "-" else f"{row.label} ({row.sites})": row for row in (rows[0], most)}
    line = ranges_sentence(result.judge, {name: row.asr[result.judge].value for name, row in ends.items()})
    return [] if line is None else [line]


def _p_of(c: RowComparison) -> str:
    """The p value that counts: adjusted for all comparisons named in advance, where the results have it."""
    return f"{p_equals(c.p)}, not adjusted" if c.p_adjusted is None else p_equals(c.p_adjusted, "adjusted p")


def _best_against(result: AuditResult) -> list[str]:
    """How each method under test stands at one block against every other one there, pair by pair."""
    rows = {row.key: row for row in result.rows if len(row.blocks) == 1 and row.sites.isdigit()}
    found: dict[str, list[str]] = {}
    for c in result.row_comparisons:
        if c.judge != result.judge or not {c.a, c.b} <= rows.keys():
            continue
        for ours, theirs, only in ((c.a, c.b, (c.only_a, c.only_b)), (c.b, c.a, (c.only_b, c.only_a))):
            if not is_baseline(rows[ours].method, result.methods):
                said = f"{rows[theirs].label} {only[0]} and {only[1]}, {_p_of(c)}"
                found.setdefault(rows[ours].label, []).append(said)
    return [
        f"{label} against others at one block (prompts that only it, and only the other gets answered; McNemar): "
        f"{'; '.join(each)}."
        for label, each in found.items()
    ]


_SCAN_SPARE = ("angle", "rank", "Fisher", "in the mean %", "distance", "depth %", "induced %", "AUROC [95 %]")


def scan_table(result: ScanResult) -> RenderableType:
    """One row a block, causal and observational figures side by side, and the sentence."""
    found = result.localisation
    if found is None:
        return words(*result.notes)
    brief = scan_brief(result)
    table = Fitted(brief.title, columns(*brief.header, left=("by",), wraps=("by",), spare=_SCAN_SPARE))
    for cells in brief.rows:
        table.add(cells)
    return Group(words(found.sentence, "", style="bold"), table, words(*_scan_legend(result, found)))


def _scan_legend(result: ScanResult, found: Localisation) -> list[str]:
    harmful, harmless = result.prompts["harmful_select"], result.prompts["harmless_select"]
    lines = [
        (
            f"Refusal removed: share of first-token refusal probability ({share(found.refusal)} on {harmful['n']} "
            f"harmful prompts, {share(found.refusal_harmless)} on {harmless['n']} harmless ones) that the best map "
            "at the block removes, chosen on one half of the prompts and measured on the other."
        ),
        (
            "Induced: refusal probability of harmless prompts under the reversed map. AUROC: Gaussian log-likelihood "
            "ratio, fitted on the fit split. Distance: 2-Wasserstein, in units of the spread. Fisher: the largest of "
            "the components. Rank: effective. Angle: to the subspace one block before, degrees. *: where it is decided."
        ),
    ]
    if found.shuffled is not None:
        held, best = found.control, percent(found.shuffled.largest, 0)
        true = "" if held is None else f"{held.candidate} removes {percent(held.removed.value, 0)}, "
        anew = "fitted anew on other prompts, " if found.rules > 1 else ""
        lines.append(
            f"Strongest block: {anew}{true}the best of {found.shuffled.fits} such fits on shuffled labels {best}."
        )
    return [*lines, *result.notes]


def search_table(result: SearchResult) -> RenderableType:
    """The Pareto front of ASR and KL on the selection split, and the recommended point."""
    brief = search_brief(result)
    spare = ("again %", "shrinkage", "strength")
    table = Fitted(brief.title, columns(*brief.header, left=brief.header[:2], wraps=("intervention",), spare=spare))
    for cells in brief.rows:
        table.add(cells)
    rungs = [sum(t.rung == rung for t in result.trials) for rung in ("first token", "short", "long")]
    legend = [
        (
            f"{len(result.trials)} trials: {rungs[0]} ended at the first token, {rungs[1]} after short answers, "
            f"{rungs[2]} were measured on long ones."
        ),
        (
            f"ASR: {result.prompts['harmful_select']['n']} harmful prompts, judge '{result.judge}'; KL and x "
            "(perplexity over the original's): along the original model's own harmless answers. "
            "*: recommended, the smallest KL of those not shown to answer fewer prompts than the best."
        ),
        *_again(result, "Those"),
        "Chosen and measured on the same selection split: audit the recommended point before you report it.",
    ]
    if result.recommended_asr is not None:
        legend.append(
            f"What one half of the prompts recommends answers {share(result.recommended_asr)} of the other half."
        )
    return Group(table, words(*legend, *result.notes))


def _again(result: AuditResult | SearchResult, which: str) -> list[str]:
    """Says that the best trials answered further prompts before one was chosen."""
    if not any(trial.again for trial in result.trials):
        return []
    return [f"{which} were tried again on {result.prompts['harmful_again']['n']} further prompts, which count as well."]
