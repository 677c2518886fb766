"""The outcome taken apart: by category of prompt, and by judge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from bures.judges.agreement import agreed
from bures.report.kit.charts import (
    BASELINE,
    INK,
    NARROW,
    ROW_HEIGHT,
    TIP,
    Spec,
    row_axis,
    row_labels,
    row_offset,
    shown,
)
from bures.report.kit.page import Cell, Choice, Figure, Key, Legend, Section, Table
from bures.report.kit.text import named
from bures.report.sections.outcome import judges_of, measured_rows
from bures.report.words import judge_words, method_style, row_name, row_title, tip
from bures.results.formatting import brief, number, percent, share
from bures.results.marks import UNFINISHED
from bures.results.schema import AuditResult, Row
from bures.results.stats import Measurement, proportion

MOST_CATEGORIES = 40
"""How many categories are drawn, the largest first; the table below has them all."""


# Categories ------------------------------------------------------------------------------------------------------


def asr_by_category(marks: str, categories: Sequence[str | None]) -> dict[str, Measurement]:
    """ASR of every category with a Wilson interval, the largest category first.

    Args:
        marks: one character a prompt, 1 where the judge saw a refusal.
        categories: of the prompts, in the same order.
    """
    found: defaultdict[str, list[bool]] = defaultdict(list)
    for mark, category in zip(marks, categories, strict=True):
        if mark != UNFINISHED:
            found["without a category" if category is None else category].append(mark == "0")
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return {category: proportion(sum(each), len(each)) for category, each in ordered}


def category_section(result: AuditResult, strongest: Row | None) -> Section | None:
    """ASR by category, of any row against the model as it is; None where the prompts have no categories."""
    tested = result.tested.get("harmful")
    if tested is None or not any(tested.categories):
        return None
    rows = [row for _, row in measured_rows(result) if len(row.refused.get(result.judge, "")) == len(tested.categories)]
    if not rows:
        return None
    found = {row.key: asr_by_category(row.refused[result.judge], tested.categories) for row in rows}
    return Section(
        "categories",
        "By kind of request",
        (
            (
                "The same answers, by the category that the prompt file gives. Few prompts make wide intervals: read a "
                "category only where its line is short."
            ),
            _category_figure(result, rows, found, strongest or rows[-1]),
        ),
    )


def _category_figure(
    result: AuditResult, rows: Sequence[Row], found: Mapping[str, Mapping[str, Measurement]], first: Row
) -> Figure:
    all_categories = list(next(iter(found.values())))
    drawn = all_categories[:MOST_CATEGORIES]
    names = {category: _label(i, category, found[rows[0].key][category].n) for i, category in enumerate(drawn, 1)}
    labels = {row.key: f"{i} {row_name(row)}" for i, row in enumerate(result.rows, 1)}
    others = [row for row in rows if row.method != "none"]
    original = [row for row in rows if row.method == "none"]
    order = sorted(others, key=lambda row: row.key != first.key)
    keys = [Key("row", "with the intervention", INK)]
    keys += [Key("none", "the model as it is", BASELINE.colour, "square", hollow=True)] if original else []
    visible, keep = shown("shown", [key.value for key in keys])
    values = [
        {
            "series": "none" if row.method == "none" else "row",
            "row": row.key,
            "category": names[category],
            "colour": method_style(row.method, result.methods).colour,
            "value": 100 * m.value,
            "low": 100 * m.bounds[0],
            "high": 100 * m.bounds[1],
            "tip": tip(named(category, 80), row_title(row), f"ASR {brief(m)}, n = {m.n}"),
        }
        for row in rows
        for category, m in found[row.key].items()
        if category in names
    ]
    note = f"Lines are 95% Wilson intervals, {judge_words(result.judge)}."
    if len(drawn) < len(all_categories):
        note += f" Drawn are the {len(drawn)} largest of {len(all_categories)} categories."
    return Figure(
        "by-category",
        "ASR by category",
        _category_spec(values, list(names.values()), visible, keep, order),
        f"ASR of {len(all_categories)} categories under each row; under {row_title(first)}: "
        + "; ".join(f"{named(c, 60)} {brief(m)} of {m.n}" for c, m in list(found[first.key].items())[:12])
        + ".",
        Table(
            ("category", "n", *(labels[row.key] for row in rows)),
            tuple(
                (named(c, 80), str(found[rows[0].key][c].n), *(share(found[row.key][c], unit="") for row in rows))
                for c in all_categories
            ),
            "ASR % [95%].",
        ),
        note,
        Legend("shown", tuple(keys)),
        (Choice("row", "Row", tuple((row.key, labels[row.key]) for row in order)),) if len(order) > 1 else (),
    )


def _label(i: int, category: str, n: int) -> str:
    """Two lines; the number keeps names apart that are alike once they are cut."""
    return f"{i}  {named(category, 34)}\nn = {n}"


def _category_spec(values: list[Spec], categories: list[str], visible: Spec, keep: Spec, order: Sequence[Row]) -> Spec:
    row = {"name": "row", "value": order[0].key if order else ""}
    y = row_axis("category", categories)
    x: Spec = {
        "field": "value",
        "type": "quantitative",
        "title": "ASR, %",
        "scale": {"domain": [0, 100], "nice": False},
        "axis": {"tickCount": 5},
    }
    colour: Spec = {
        "field": "colour",
        "type": "nominal",
        "scale": {"domain": (colours := sorted({v["colour"] for v in values})), "range": colours},
    }
    whole: Spec = {
        "y": y,
        "yOffset": row_offset("series", ["row", "none"]),
        "color": colour,
    }

    def dots(series: str, mark: Spec) -> Spec:
        return {
            "transform": [{"filter": f"datum.series == '{series}'"}],
            "mark": {"type": "point", "opacity": 1, **mark},
            "encoding": {**whole, "x": x, "tooltip": TIP},
        }

    return {
        "params": [NARROW, visible, row],
        "width": "container",
        "height": ROW_HEIGHT * len(categories),
        "data": {"values": values},
        "transform": [keep, {"filter": "datum.series == 'none' || datum.row == row"}],
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {**whole, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "tooltip": TIP},
            },
            dots("row", {"filled": True, "size": 80}),
            dots("none", {"filled": False, "fill": "var(--surface)", "shape": "square", "size": 50}),
            row_labels(categories, "category"),
        ],
    }


# Judges ----------------------------------------------------------------------------------------------------------


class Agreement(NamedTuple):
    """Share of answers on which two judges agree, and Cohen's kappa (1960); no kappa where chance alone is certain."""

    share: float
    kappa: float | None


def agreement(a: str, b: str) -> Agreement:
    """How far two judges agree.

    Args:
        a: one judge's marks, one character an answer, 1 for a refusal.
        b: the other's.

    Raises:
        ValueError: there are no marks, or not as many of both.
    """
    return Agreement(*agreed(*([mark == "1" for mark in marks] for marks in (a, b))))


def judge_section(result: AuditResult) -> Section | None:
    """How far the judges agree, over all rows' answers; None where there is nothing to compare."""
    judges = judges_of(result)
    rows: list[tuple[str | Cell, ...]] = []
    for name, sets in (("harmful", "refused"), ("harmless", "refused_harmless")):
        for a, b in combinations(judges, 2):
            both = [
                (marks[a], marks[b])
                for _, row in measured_rows(result)
                if a in (marks := getattr(row, sets)) and b in marks and len(marks[a]) == len(marks[b])
            ]
            read = [pair for marks in both for pair in zip(*marks, strict=True) if UNFINISHED not in pair]
            if read:
                left, right = ("".join(each) for each in zip(*read, strict=True))
                rows.append(_agreement_row(name, a, b, left, right))
    if not rows:
        return None
    header = ("prompts", "judges", "answers", "agree %", "kappa", "both refused", "only 1st", "only 2nd", "neither")
    return Section(
        "judges",
        "How far the judges agree",
        (
            (
                "Whether an answer is a refusal is itself an opinion. Counted over the answers of all rows. Cohen's "
                "kappa is the agreement beyond chance: 1 is perfect, 0 is chance."
            ),
            Table(header, tuple(rows)),
        ),
    )


def _agreement_row(name: str, a: str, b: str, left: str, right: str) -> tuple[str | Cell, ...]:
    found = agreement(left, right)
    pairs = list(zip(left, right, strict=True))
    counts = [pairs.count(pair) for pair in (("1", "1"), ("1", "0"), ("0", "1"), ("0", "0"))]
    return (
        name,
        f"{named(a, 30)} / {named(b, 30)}",
        str(len(pairs)),
        percent(found.share, unit=""),
        number(found.kappa),
        *map(str, counts),
    )
