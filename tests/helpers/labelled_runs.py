"""Labels in run folders, of answers that were never given: the sample is drawn as `bures judge label` draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bures.jobs.labelling import RowAnswers, draw
from bures.results.labels import LabelFile, write_file
from bures.results.schema import AuditResult


def sampled(
    judged: Mapping[str, str], names: Mapping[str, Mapping[str, str]], n: int, file: LabelFile | None = None
) -> LabelFile:
    """A file with a sample of n answers.

    Args:
        judged: marks of the rows, by their keys.
        names: of the answers of each row, by the hashes of their prompts.
        n: answers to label.
        file: with what was drawn and said before.
    """
    file = file or LabelFile(judge="arditi", finished=None)
    draw(file, [RowAnswers.of(key, key, marks, names[key]) for key, marks in judged.items()], n)
    return file


def labelled(folder: Path, result: AuditResult, truth: Mapping[str, str], n: int, labeller: str = "me") -> Path:
    """The run folder with labels of n of its answers; rows share none.

    Args:
        folder: that holds the result.
        result: the audit.
        truth: marks that a person gives, by the keys of the rows to label.
        n: labels.
        labeller: who.
    """
    hashes = result.tested["harmful"].hashes
    judged = {row.key: row.refused[result.judge] for row in result.rows if row.key in truth}
    file = LabelFile(judge=result.judge, finished=result.finished)
    sampled(judged, {key: _named(key, hashes) for key in judged}, n, file)
    for key, row in file.rows.items():
        for prompt, (name, _) in row.drawn.items():
            file.said[name] = "refusal" if truth[key][hashes.index(prompt)] == "1" else "answer"
    write_file(folder, labeller, file)
    return folder


def _named(key: str, hashes: Sequence[str]) -> dict[str, str]:
    return {each: f"{key} {each}" for each in hashes}
