"""The outcome of an audit: the paper's table, and its intervals drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bures.report.kit.charts import (
    BAND,
    INK,
    MUTED,
    NARROW,
    ROW_HEIGHT,
    TIP,
    Spec,
    chosen,
    row_axis,
    row_labels,
    row_offset,
    shown,
)
from bures.report.kit.page import Block, Cell, Choice, Figure, Items, Key, Legend, Section, Table
from bures.report.kit.text import named
from bures.report.words import (
    judge_error,
    judge_words,
    method_style,
    prompts,
    row_name,
    row_place,
    row_title,
    tip,
)
from bures.results.formatting import brief, estimate, how_unfinished, number, percent, share, share_or_range
from bures.results.names import COHERENT
from bures.results.schema import AuditResult, Row
from bures.results.stats import Measurement

_MEASURES = (("asr", "answers harmful prompts (ASR)"), ("over", "refuses harmless prompts (over-refusal)"))


def judges_of(result: AuditResult) -> list[str]:
    """The judges of a result, the headline judge first."""
    found = {judge for row in result.rows for judge in (*row.asr, *row.over_refusal)}
    return [result.judge, *sorted(found - {result.judge})]


class Numbered(NamedTuple):
    """A row, and its number in the table (from 1)."""

    number: int
    row: Row


def measured_rows(result: AuditResult) -> list[Numbered]:
    """The rows that were measured."""
    return [Numbered(i, row) for i, row in enumerate(result.rows, 1) if row.error is None and result.judge in row.asr]


def outcome_section(result: AuditResult) -> Section:
    """The table with its chart."""
    blocks: list[Block] = [
        (
            "Each row is one change of the model's activations, chosen on prompts that are not counted here; the "
            "strongest is the one that came furthest on those. The first row is the model as it is."
        )
    ]
    if measured_rows(result):
        blocks.append(_whiskers(result))
    blocks.append(audit_table(result))
    failed = [f"{row_title(row)}: {named(row.error, 400)}" for row in result.rows if row.error]
    if failed:
        blocks += ["What failed, and why:", Items(tuple(failed))]
    return Section("outcome", "How much refusal survives", tuple(blocks))


def audit_table(result: AuditResult) -> Table:
    """Every row of `results.json`, with the figures of the headline judge."""
    asr, coherent = f"ASR % [95%], {named(result.judge, 20)}", "coherent %"
    costs = ("over-refusal % [95%]", "perplexity", "×", "KL", "corpus")
    header = ("#", "row", "method", "block", "tokens", "K", asr, coherent, *costs, "unfinished")
    rows = [tuple(_cells(i, row, result.judge)) for i, row in enumerate(result.rows, 1)]
    used = [j for j in range(len(header)) if j < 7 or any(_text(row[j]) not in ("-", "0") for row in rows)]
    over = any(row.within_budget is False for row in result.rows)
    caption = [
        "Test prompts. ×: perplexity over the original's; KL in nats.",
        "!: nothing was within the perplexity budget on the selection prompts." if over else "",
        f"{coherent}: ASR where an empty answer, noise or repetition is no success either." if 7 in used else "",
        (
            "unfinished: answers cut before they said anything, in brackets the ASR if none of them counts and if all "
            "do; intervals cover both."
            if len(header) - 1 in used
            else ""
        ),
        judge_error(result.judge),
    ]
    shown_rows = tuple(tuple(row[j] for j in used) for row in rows)
    return Table(tuple(header[j] for j in used), shown_rows, " ".join(filter(None, caption)))


def _text(cell: str | Cell) -> str:
    return cell if isinstance(cell, str) else cell.text


def _cells(i: int, row: Row, judge: str) -> list[str | Cell]:
    rank = "-" if row.rank is None else str(row.rank)
    method = named(row.label, 60) if row.method != "none" else row_name(row)
    head: list[str | Cell] = [
        str(i),
        named(row.key, 40),
        method,
        named(row.sites, 40),
        named(row.tokens or "-", 20),
        rank,
    ]
    if row.error:
        return [*head, Cell("failed", tone="bad"), *["-"] * 7]
    coherent = row.asr.get(judge + COHERENT)
    ratio = estimate(row.ratio) + ("" if row.within_budget is not False else "!")
    return [
        *head,
        share_or_range(row.asr.get(judge), row.asr_bounds.get(judge), unit=""),
        percent(None if coherent is None else coherent.value, unit=""),
        share_or_range(row.over_refusal.get(judge), row.over_refusal_bounds.get(judge), unit=""),
        number(row.perplexity),
        ratio if row.within_budget is not False else Cell(ratio, sort=row.perplexity_ratio, tone="bad"),
        number(row.kl, 3),
        number(row.corpus_perplexity),
        how_unfinished(row.unfinished.get("harmful", 0), row.asr_bounds.get(judge)),
    ]


# Dots and whiskers -----------------------------------------------------------------------------------------------


def _whiskers(result: AuditResult) -> Figure:
    rows, judges = measured_rows(result), judges_of(result)
    keys = (Key("asr", _MEASURES[0][1], INK), Key("over", _MEASURES[1][1], INK, "square", hollow=True))
    n = rows[0].row.asr[result.judge].n
    said = "; ".join(f"{row_title(row)}: {brief(row.asr[result.judge])}" for _, row in rows)
    return Figure(
        "intervals",
        "Answers to harmful prompts and refusals of harmless ones",
        _spec(result, rows, judges),
        f"For every row of the table, the share of {prompts(n, 'harmful')} that the model answers and the share of "
        f"harmless ones that it refuses, as a dot with its 95% interval. {said}.",
        _whisker_table(rows, judges),
        f"Lines are 95% intervals over prompts, by {judge_words(result.judge)} unless another is chosen. The grey band "
        "is the model as it is.",
        Legend("shown", keys),
        () if len(judges) == 1 else (Choice("judge", "Judge", tuple((name, named(name, 40)) for name in judges)),),
    )


def _spec(result: AuditResult, rows: Sequence[Numbered], judges: Sequence[str]) -> Spec:
    names = {row.key: tip(f"{i}  {row_name(row)}", row_place(row)) for i, row in rows}
    visible, keep = shown("shown", ["asr", "over"], "measure")
    judge, of_judge = chosen("judge", result.judge, "judge")
    values = [
        value
        for _, row in rows
        for name in judges
        for measure, of in (("asr", row.asr), ("over", row.over_refusal))
        if (value := _whisker(row, names[row.key], name, measure, of.get(name))) is not None
    ]
    methods = sorted({row.method for _, row in rows})
    colours = {"domain": methods, "range": [method_style(method, result.methods).colour for method in methods]}
    whole: Spec = {
        "y": row_axis("name", list(names.values())),
        "yOffset": row_offset("measure", ["asr", "over"]),
        "color": {"field": "method", "type": "nominal", "scale": colours},
    }
    x: Spec = {
        "field": "value",
        "type": "quantitative",
        "title": "% of prompts",
        "scale": {"domain": [0, 100], "nice": False},
        "axis": {"tickCount": 5},
    }
    ends: Spec = {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
    original = [{"filter": "datum.original && datum.measure == 'asr'"}]
    rule: Spec = {"type": "rule", "color": MUTED, "strokeDash": [3, 3]}
    return {
        "params": [NARROW, visible, judge],
        "width": "container",
        "height": ROW_HEIGHT * len(rows),
        "data": {"values": values},
        "transform": [of_judge, keep],
        "layer": [
            {"transform": original, "mark": {"type": "rect", "color": BAND, "tooltip": None}, "encoding": ends},
            {"transform": original, "mark": rule, "encoding": {"x": x}},
            {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {**whole, **ends, "tooltip": TIP}},
            *(_dots(whole, x, name, hollow=name == "over") for name in ("asr", "over")),
            row_labels(list(names.values()), "name"),
        ],
    }


def _dots(whole: Spec, x: Spec, measure: str, *, hollow: bool) -> Spec:
    mark: Spec = {"type": "point", "filled": not hollow, "size": 90, "opacity": 1}
    if hollow:
        mark |= {"fill": "var(--surface)", "shape": "square", "size": 60}
    return {
        "transform": [{"filter": f"datum.measure == '{measure}'"}],
        "mark": mark,
        "encoding": {**whole, "x": x, "tooltip": TIP},
    }


def _whisker(row: Row, name: str, judge: str, measure: str, m: Measurement | None) -> Spec | None:
    if m is None:
        return None
    low, high = m.bounds
    what = "ASR" if measure == "asr" else "over-refusal"
    return {
        "name": name,
        "method": row.method,
        "original": row.method == "none",
        "judge": judge,
        "measure": measure,
        "value": 100 * m.value,
        "low": 100 * low,
        "high": 100 * high,
        "tip": tip(row_title(row), f"{what} {brief(m)}", f"n = {m.n}, judge '{named(judge, 40)}'"),
    }


def _whisker_table(rows: Sequence[Numbered], judges: Sequence[str]) -> Table:
    header = ["#", "row", "n"]
    for judge in judges:
        header += [f"ASR %, {named(judge, 20)}", f"over-refusal %, {named(judge, 20)}"]
    cells = [
        (
            str(i),
            row_title(row),
            " / ".join(str(next(iter(of.values())).n) for of in (row.asr, row.over_refusal) if of),
            *(share(of.get(judge), unit="") for judge in judges for of in (row.asr, row.over_refusal)),
        )
        for i, row in rows
    ]
    return Table(tuple(header), tuple(cells), "n: harmful prompts / harmless ones.")
