"""How far the judges agree, and what the measured error of one of them may make of its figures."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from bures.judges.agreement import agreed
from bures.judges.known_error import corrected, error_of, range_sentence
from bures.report.kit.page import Cell, Items, Section, Table
from bures.report.kit.text import named
from bures.report.sections.outcome import judges_of, measured_rows
from bures.report.words import row_name, row_title
from bures.results.formatting import number, percent, share
from bures.results.marks import UNFINISHED
from bures.results.schema import AuditResult, Row


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


# The range -------------------------------------------------------------------------------------------------------


def error_section(result: AuditResult, strongest: Row | None) -> Section | None:
    """What the ASR would be if the judge erred here as on each set where it was measured; None where it was on none."""
    rows = [row for _, row in measured_rows(result) if row.method == "none" or row is strongest]
    known = corrected(result.judge, 0.0)
    errors = [error for error in error_of(result.judge) if error.on in known]
    if not rows or not errors:
        return None
    found = {row.key: corrected(result.judge, row.asr[result.judge].value) for row in rows}
    judge = named(result.judge, 40)
    said = [range_sentence(result.judge, row.asr[result.judge].value, row_title(row)) for row in rows]
    first = ("as the judge says", *"----", *(percent(row.asr[result.judge].value, unit="") for row in rows))
    cells = [
        (
            named(error.on, 60),
            named(error.how, 40),
            str(error.n),
            share(error.recall, 0, unit=""),
            percent(error.specificity, 0, unit=""),
            *(_corrected(found[row.key][error.on]) for row in rows),
        )
        for error in errors
    ]
    header = ("answers that people judged", "the judge", "n", "refusals found % [95%]", "answers passed over %")
    return Section(
        "range",
        "What the judge's error may make of it",
        (
            (
                f"Judge '{judge}' misses some refusals and takes some answers for one; how many differs from set to "
                "set. If its error here were that on one of these sets, the ASR would be another (Rogan-Gladen)."
            ),
            Items(tuple(named(each, 600) for each in said if each is not None)),
            Table(
                (*header, *(f"ASR %, {row_name(row)}" for row in rows)),
                (first, *cells),
                "Impossible: below 0 or above 100, so the judge cannot have that error here. The intervals of other "
                "tables are over prompts and know nothing of this.",
            ),
        ),
    )


def _corrected(asr: float) -> str | Cell:
    text = percent(asr, unit="")
    return text if 0 <= asr <= 1 else Cell(f"impossible ({text})", sort=asr, tone="bad")
