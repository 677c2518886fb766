"""Rows of one audit against each other, prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bures.report.kit.page import Cell, Details, Section, Table
from bures.report.kit.text import named
from bures.report.sections.outcome import Numbered, measured_rows
from bures.report.words import one_block, row_name, row_where
from bures.results.formatting import p_value, points
from bures.results.schema import AuditResult, RowComparison


def row_comparison_section(result: AuditResult) -> Section | None:
    """McNemar's tests between the rows; None where there are none."""
    rows = {numbered.row.key: numbered for numbered in measured_rows(result)}
    found = [c for c in result.row_comparisons if c.a in rows and c.b in rows]
    if not found:
        return None
    against = [
        c for c in found if c.judge == result.judge and "none" not in (rows[c.a].row.method, rows[c.b].row.method)
    ]
    single = [c for c in against if one_block(rows[c.a].row) and one_block(rows[c.b].row)]
    head = single or against or found
    rest = [c for c in found if c not in head]
    return Section(
        "pairs",
        "Row against row",
        (
            (
                "Two rows answer the same prompts, so they can be compared prompt by prompt: what counts are the "
                "prompts that only one of them gets an answer to. McNemar's test; the interval of the difference is "
                "that of the same test. " + _adjustment(found)
            ),
            Table(_PAIR_HEADER, tuple(_pair(c, rows) for c in head), f"{len(head)} comparisons."),
            *((Details(f"{len(rest)} more, of all rows and judges", (_pairs(rest, rows),)),) if rest else ()),
        ),
    )


_PAIR_HEADER = ("row", "against", "judge", "only the row", "only the other", "points [95%]", "p", "adjusted p")


def _adjustment(found: Sequence[RowComparison]) -> str:
    family = sum(c.p_adjusted is not None for c in found)
    if not family:
        return (
            "These results were written before p values were adjusted for the number of comparisons: among many equal "
            "rows some p falls below 0.05 in every second audit."
        )
    return (
        "Adjusted p: for all comparisons of a judge that were named in advance (interventions with the model as it is, "
        "methods at one placement, placements of one method), by Holm's method; the others have none, and nothing "
        "follows from theirs. Rows that are not told apart are not shown to be equal: the interval says how far apart "
        "they may be."
    )


def _pairs(found: Sequence[RowComparison], rows: Mapping[str, Numbered]) -> Table:
    return Table(_PAIR_HEADER, tuple(_pair(c, rows) for c in found))


def _pair(c: RowComparison, rows: Mapping[str, Numbered]) -> tuple[str | Cell, ...]:
    a, b = (", ".join(filter(None, (f"{i}  {row_name(row)}", row_where(row)))) for i, row in (rows[c.a], rows[c.b]))
    return a, b, named(c.judge, 30), str(c.only_a), str(c.only_b), *_tested(c)


def _tested(c: RowComparison) -> tuple[str | Cell, ...]:
    adjusted = "-" if c.p_adjusted is None else Cell(p_value(c.p_adjusted), sort=c.p_adjusted)
    return "-" if c.difference is None else points(c.difference), Cell(p_value(c.p), sort=c.p), adjusted
