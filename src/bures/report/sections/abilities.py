"""What the model can still do under every row: capability tasks, and metrics of installed packages."""

from __future__ import annotations

from bures.report.kit.page import Section, Table
from bures.report.kit.text import named
from bures.report.sections.outcome import measured_rows
from bures.report.words import row_title
from bures.results.formatting import estimate, share
from bures.results.schema import AuditResult


def ability_section(result: AuditResult) -> Section | None:
    """A column a task or metric; None where none was asked for."""
    rows = measured_rows(result)
    tasks = list(dict.fromkeys(name for _, row in rows for name in row.capability))
    metrics = list(dict.fromkeys(name for _, row in rows for name in row.metrics))
    if not tasks and not metrics:
        return None
    counts = {name: m.n for _, row in rows for name, m in (*row.capability.items(), *row.metrics.items())}
    header = ("#", "row", *(f"{named(name, 40)} %" for name in tasks), *(named(name, 40) for name in metrics))
    cells = [
        (
            str(i),
            row_title(row),
            *(share(row.capability.get(name), unit="") for name in tasks),
            *(estimate(row.metrics.get(name), 3) for name in metrics),
        )
        for i, row in rows
    ]
    said = "; ".join(f"{named(name, 40)} n = {counts[name]}" for name in (*tasks, *metrics))
    return Section(
        "abilities",
        "What the model can still do",
        (
            (
                "An intervention that costs the model its abilities is a poor attack. Tasks are accuracies by lm-eval, "
                "under each row's intervention; intervals are 1.96 standard errors to each side."
            ),
            Table(header, tuple(cells), f"{said}."),
        ),
    )
