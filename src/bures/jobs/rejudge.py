"""Judging a finished audit again: the completions are in its run folder, so nothing is generated.

The new judge's figures, marks and paired tests go into `results.json` beside those of the judges that were asked
before, with the agreement of every two judges in the notes. What was measured before is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bures.data.conversations import as_prompt
from bures.errors import RunError
from bures.jobs.counting import count
from bures.jobs.progress import Progress, Silent
from bures.judges.agreement import AGREEMENT, agreement
from bures.judges.base import marks, require_ready
from bures.judges.by_name import judge_by_name
from bures.results.names import Which
from bures.results.row_comparisons import between_rows
from bures.results.run_folder import RunFolder, load_result
from bures.results.schema import AuditResult


def rejudge(folder: str | Path, names: Sequence[str], *, progress: Progress | None = None) -> AuditResult:
    """Asks further judges about a finished audit's completions and writes what they say into its results.

    Args:
        folder: the run folder.
        names: of judges, see `bures.judges`.
        progress: who is told how far it is.

    Raises:
        RunError: the folder holds no finished audit, or its completions are not those of its results.
        ConfigError: an unknown judge, or one that cannot be loaded.
    """
    run = RunFolder(Path(folder))
    load_result(folder, AuditResult)  # before anything is written there
    run.require_writable()
    with run.claimed():
        return _judge(run, names, progress or Silent())


def _judge(run: RunFolder, names: Sequence[str], progress: Progress) -> AuditResult:
    result = load_result(run.path, AuditResult)
    if result.status != "complete":
        raise RunError(f"the audit in {run.path} has not finished; give its command again, then judge it")
    judges = [judge_by_name(name) for name in names]
    for judge in judges:
        require_ready(judge)
    lines = answer_lines(run, result)
    for judge in judges:
        progress.stage(f"judge {judge.name}", len(lines))
        for (key, which), answers in lines.items():
            row = next(row for row in result.rows if row.key == key)
            texts = [as_prompt(line["prompt"], "prompt") for line in answers], [line["completion"] for line in answers]
            finished = [line.get("finished", True) for line in answers]
            count(row, which, marks(judge, *texts, harmful=which == "harmful", finished=finished))
            progress.advance()
    result.row_comparisons = between_rows(result.rows)
    kept = [note for note in result.notes if not note.startswith(AGREEMENT)]
    result.notes = [*kept, *agreement([row.refused for row in result.rows])]
    run.save(result)
    return result


def answer_lines(run: RunFolder, result: AuditResult) -> dict[tuple[str, Which], list[Mapping[str, Any]]]:
    """The completions of every row and set, in the prompts' order."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in run.read_completions():
        found.setdefault((line["row"], line["set"]), []).append(line)
    wanted: dict[tuple[str, Which], list[Mapping[str, Any]]] = {}
    for row in result.rows:
        if row.error is not None:
            continue
        for which, tested in result.tested.items():
            lines = found.get((row.key, which), [])
            if [line["hash"] for line in lines] != tested.hashes:
                raise RunError(
                    f"{run.completions} does not hold the {which} answers of row {row.key}; expected "
                    f"{len(tested.hashes)} of them: the audit has to be run again"
                )
            wanted[row.key, which] = lines
    return wanted
