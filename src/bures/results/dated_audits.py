"""Finished audits with the time at which they ended, as far as folders hold such audits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bures.errors import ConfigError, RunError
from bures.results.finished_audits import Run, judge_of, load_runs
from bures.results.labelled_rows import by_labels, unused
from bures.results.paired_differences import counted


@dataclass(frozen=True)
class Dated:
    """An audit in time.

    Attributes:
        run: the audit, under a label that no other has.
        judge: whose marks count.
        ended: when it ended, in UTC.
        time_of_file: whether that is the time of the file, because the results do not say.
    """

    run: Run
    judge: str
    ended: datetime
    time_of_file: bool


def dated_audits(
    folders: Sequence[str | Path], judge: str | None, labeller: str | None = None
) -> tuple[list[Dated], list[str]]:
    """The audits that can be read, each once; and why the others cannot.

    Args:
        folders: where audits are.
        judge: whose marks count; None: each audit's own.
        labeller: whose labels of their answers are read too, where there are some.

    Raises:
        RunError: a folder does not exist.
        ConfigError: the labeller's name cannot be a file's.
    """
    missing = [folder for folder in folders if not Path(folder).exists()]
    if missing:  # mistyped: what is there and no audit may be another job's, and is left out
        raise RunError(f"no such folder: {missing[0]}; expected the folders of bures audit runs")
    runs: list[Run] = []
    left_out: list[str] = []
    for folder in {Path(folder).resolve(): folder for folder in folders}.values():
        try:
            runs += load_runs([folder], labeller)
        except RunError as error:
            left_out.append(str(error))
    names = [run.label for run in runs]
    found: list[Dated] = []
    for run in runs:
        label = run.label if names.count(run.label) == 1 else f"{run.label} ({run.folder})"
        try:
            found.append(_dated(replace(run, label=label), judge_of([run], judge)))
        except (RunError, ConfigError) as error:
            left_out.append(str(error))
    return found, left_out


def _dated(run: Run, judge: str) -> Dated:
    """Raises `RunError` where a row has no marks that can be paired."""
    for row in (row for row in run.result.rows if row.error is None):
        for which in ("harmful", "harmless"):
            counted(run, row, judge, which)
    try:
        said = datetime.fromisoformat(run.result.finished or "")
        return Dated(run, judge, (said if said.tzinfo else said.replace(tzinfo=UTC)).astimezone(UTC), False)
    except (ValueError, OverflowError):
        of_file = (Path(run.folder) / "results.json").stat().st_mtime
        return Dated(run, judge, datetime.fromtimestamp(of_file, UTC), True)


def about_labels(runs: Sequence[Run], labeller: str | None) -> list[str]:
    """What is said of the labels of audits: those that were asked for, or those that are there and were not."""
    if labeller is None:
        return unused(runs)
    if any(run.labels is not None for run in runs):
        return [f"{by_labels(runs)} The last audit is held against the first by them where both have some."]
    return [f"No audit has labels of {labeller!r}: bures judge label RUN --as {labeller} asks for some."]
