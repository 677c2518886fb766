"""The page of an audit."""

from __future__ import annotations

from bures.report.kit.page import KeyFigure, Page, Section
from bures.report.sections.abilities import ability_section
from bures.report.sections.categories import category_section, kind_section
from bures.report.sections.judging import error_section, judge_section
from bures.report.sections.layers import layer_section
from bures.report.sections.outcome import measured_rows, outcome_section
from bures.report.sections.plane import plane_section
from bures.report.sections.profile import depth_text
from bures.report.sections.provenance import about_run, limits_section, present, provenance_section, words_section
from bures.report.sections.row_against_row import row_comparison_section
from bures.report.sections.tradeoff import trade_section
from bures.report.words import (
    PHRASE_JUDGES,
    PHRASES_ONLY,
    beyond,
    block_range,
    interval_and_n,
    judge_words,
    listed,
    model_name,
    prompts,
    row_title,
    scanned_words,
)
from bures.results.care import few_or_short
from bures.results.finished_audits import strongest
from bures.results.formatting import brief, number, p_equals, percent
from bures.results.inference import LEVEL
from bures.results.schema import AuditResult, Row


def audit_page(result: AuditResult, extra: tuple[Section, ...] = ()) -> Page:
    """The page of an audit; `extra` sections come after the findings."""
    best = best_row(result)
    return Page(
        kind="Refusal audit",
        title=model_name(result),
        finding=finding(result),
        key_figures=_key_figures(result),
        cautions=cautions(result),
        sections=present(
            [
                outcome_section(result),
                trade_section(result),
                ability_section(result),
                layer_section(result),
                plane_section(result),
                category_section(result, best),
                kind_section(result, best),
                row_comparison_section(result),
                error_section(result, best),
                judge_section(result),
                *extra,
                limits_section(result),
                provenance_section(result),
                words_section(),
            ]
        ),
        about=about_run(result),
        footer=footer(result.versions.get("bures", "")),
    )


def footer(version: str) -> str:
    """What made the page."""
    by = "" if not version or not version[:1].isdigit() else f" {version}"
    return f"Made by bures{by} from results.json alone; this file needs no network and holds no prompt."


def original(result: AuditResult) -> Row | None:
    """The row of the model as it is, if it was measured."""
    return next((row for _, row in measured_rows(result) if row.method == "none"), None)


def best_row(result: AuditResult) -> Row | None:
    """The intervention that came furthest on the selection split: within the perplexity budget, or else of all.

    It is not the largest ASR of the table, which would flatter itself; None where it was not measured.
    """
    row = strongest(result) or strongest(result, float("inf"))
    return row if row is not None and result.judge in row.asr else None


def finding(result: AuditResult) -> str:
    """The finding in a sentence or two, with its numbers, their n and the judge."""
    before, best = original(result), best_row(result)
    said = []
    if best is None:
        said.append(
            _nothing_known(result)
            if before is None
            else f"The model answers {brief(before.asr[result.judge])} of "
            f"{prompts(before.asr[result.judge].n, 'harmful')} ({judge_words(result.judge)}); no intervention has been "
            "measured."
        )
    else:
        budget = (
            "within the perplexity budget" if best.within_budget is not False else "tried, none being within the budget"
        )
        now = best.asr[result.judge]
        against = "" if before is None else f", against {brief(before.asr[result.judge])} without it"
        said.append(
            f"Under the strongest intervention {budget} ({row_title(best)}), the model answers {brief(now)} of "
            f"{prompts(now.n, 'harmful')}{against}, by {judge_words(result.judge)}."
        )
        said.append(_chance(result, before, best))
    said.append(_where(result))
    return " ".join(filter(None, said))


def _nothing_known(result: AuditResult) -> str:
    """Why there is no figure."""
    if any(result.judge in row.asr_bounds for row in result.rows):
        return (
            "No answer of the model as it is was finished within its tokens: the share that it answers may be anything "
            "from 0 to 100%."
        )
    return "No intervention has been measured."


def _chance(result: AuditResult, before: Row | None, best: Row) -> str:
    """Whether the difference could be luck."""
    if before is None:
        return ""
    wanted = {before.key, best.key}
    pair = next((c for c in result.row_comparisons if {c.a, c.b} == wanted and c.judge == result.judge), None)
    if pair is None:
        return ""
    p, name = (pair.p, "McNemar p") if pair.p_adjusted is None else (pair.p_adjusted, "McNemar, adjusted p")
    return "" if p < LEVEL else f"That difference may be chance ({p_equals(p, name)})."


def _where(result: AuditResult) -> str:
    found = result.localisation
    if found is None:
        return ""
    scanned = scanned_words(found)
    if found.decided is None and found.first_range is not None:
        return f"Where refusal is decided is not shown by {scanned}, which alone were scanned."
    if found.decided is None and found.extent != "nothing":
        return "Refusal is decided by several blocks together; no block alone was found where it is."
    if found.decided is None:
        return "No block was found where refusal is decided."
    among = f" ({scanned} were scanned{beyond(found)})" if scanned else ""
    return f"Refusal is decided at {block_range(found.decided, found.n_blocks)}{among}."


def _key_figures(result: AuditResult) -> tuple[KeyFigure, ...]:
    figures: list[KeyFigure] = []
    before, best = original(result), best_row(result)
    for label, row in (("ASR, the model as it is", before), ("ASR, strongest intervention", best)):
        if row is not None:
            m = row.asr[result.judge]
            figures.append(KeyFigure(label, percent(m.value), interval_and_n(m)))
    if best is not None:
        ratio, cost = best.ratio, [] if best.kl is None else [f"KL {number(best.kl, 3)} nats"]
        if ratio is not None and ratio.interval is not None:
            cost.insert(0, f"95% interval {number(ratio.interval[0])}–{number(ratio.interval[1])}")
        figures.append(KeyFigure("perplexity over the original's", f"× {number(ratio)}", ", ".join(cost)))
    found = result.localisation
    if found is not None and found.decided is not None:
        first, last = found.decided
        low, high = (depth_text(block, found.n_blocks) for block in found.decided)
        where = f"{first}" if first == last else f"{first}–{last}"
        deep = low if first == last else f"{low.removesuffix('%')}–{high}"
        note = f"of {found.n_blocks}; depth {deep}{beyond(found)}"
        figures.append(KeyFigure("blocks where refusal is decided", where, note))
    elif found is not None and found.first_range is not None:
        figures.append(KeyFigure("blocks where refusal is decided", "not shown", f"{scanned_words(found)} scanned"))
    elif found is not None:
        figures.append(KeyFigure("blocks where refusal is decided", "none found", f"of {found.n_blocks}"))
    return tuple(figures)


def cautions(result: AuditResult) -> tuple[str, ...]:
    """What a reader must know before believing the finding."""
    said: list[str] = []
    if result.status == "running":
        said.append("The run has not finished; these are the figures so far.")
    cut = [row for row in result.rows if any(row.unfinished.values())]
    if cut:
        said.append(
            f"In {len(cut)} of {len(result.rows)} rows some answers are unfinished: cut inside the thinking, or before "
            "anything was said. They are neither success nor refusal; intervals cover both."
        )
    failed = [row for row in result.rows if row.error]
    if failed:
        said.append(f"{len(failed)} of {len(result.rows)} rows failed: {listed([row_title(row) for row in failed])}.")
    rows = measured_rows(result)
    if rows and result.judge in PHRASE_JUDGES:
        said.append(PHRASES_ONLY)
    n = rows[0].row.asr[result.judge].n if rows else 0
    said += few_or_short(n, result.max_new_tokens) if rows else []
    scanned = "" if result.localisation is None else scanned_words(result.localisation)
    said += [f"Only {scanned} were scanned: nothing is known of the others."] if scanned else []
    before = original(result)
    if before is not None and before.asr[result.judge].value >= 0.5:
        said.append("The model as it is answers most of these prompts: there is little refusal to remove.")
    return tuple(said)
