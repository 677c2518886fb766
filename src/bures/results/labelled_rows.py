"""Finished audits by a person's labels: which rows have some, what is said of it, and how many a limit takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bures.errors import RunError
from bures.results.finished_audits import Run
from bures.results.labelled import LabelledDifference, RowLabels, asr_from_labels, difference_from_labels
from bures.results.labels import labellers
from bures.results.schema import Row


def labels_of(run: Run, row: Row) -> RowLabels | None:
    """What was said of a row; None where no labels were asked for or there are none."""
    return None if run.labels is None else run.labels.rows.get(row.key)


def required_labels(run: Run, row: Row, labeller: str) -> RowLabels:
    """The same where an ASR is to be by labels.

    Raises:
        RunError: there are none.
    """
    found = labels_of(run, row)
    if found is None:
        raise RunError(
            f"row {row.key} of {run.folder} has no labels of {labeller!r}; "
            f"bures judge label {run.folder} --as {labeller} --row {row.key} asks for some"
        )
    return found


def both_labelled(a: Run, row_a: Row, b: Run, row_b: Row) -> bool:
    """Whether two rows both have labels on prompts that both answered."""
    before, after = labels_of(a, row_a), labels_of(b, row_b)
    if before is None or after is None:
        return False
    both = before.judged.keys() & after.judged.keys()
    return bool(both & before.said.keys() and both & after.said.keys())


def labelled_pair(a: Run, row_a: Row, b: Run, row_b: Row) -> LabelledDifference | None:
    """How far two rows are apart by labels of both; None where either has none on prompts that both answered."""
    before, after = labels_of(a, row_a), labels_of(b, row_b)
    if before is None or after is None or not both_labelled(a, row_a, b, row_b):
        return None
    return difference_from_labels(before, after)


def by_labels(runs: Sequence[Run]) -> str:
    """What an ASR by labels is, in a sentence."""
    of = [run.labels for run in runs if run.labels is not None]
    judges = " and ".join(repr(judge) for judge in dict.fromkeys(labels.judge for labels in of))
    counts = " and ".join(
        f"{sum(len(row.said) for row in labels.rows.values())} in {len(labels.rows)} row{'s'[: len(labels.rows) > 1]}"
        for labels in of
    )
    return (
        f"ASR by labels of {of[0].labeller!r} ({counts}) and the marks of {judges}: the intervals hold whatever that "
        "judge's error."
    )


def unused(runs: Sequence[Run]) -> list[str]:
    """Labels that are there, where none were asked for."""
    there = {run.folder: labellers(Path(run.folder)) for run in runs}
    return [
        f"{folder} has labels of {', '.join(names)}: --labels {names[0]} takes the ASR from them."
        for folder, names in there.items()
        if names
    ]


def fewest_labels(n: int, limit: float) -> int | None:
    """The fewest labels, all of refusals, at which the ASR of n answers that the judge calls refused ends at a limit.

    None where n answers are too few for it, however many are labelled.
    """

    def ends_at_limit(labels: int) -> bool:
        return asr_from_labels([False] * n, dict.fromkeys(range(labels), False)).bounds[1] <= limit

    if not ends_at_limit(n):
        return None
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if ends_at_limit(middle) else (middle, high)
    return high
