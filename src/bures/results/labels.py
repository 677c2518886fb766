"""What people said of a run's answers: one file a person, read without the completions; no torch.

A file holds hashes and labels and no text. With every row it keeps how the judge had parted its answers when the sample
was drawn, and the sample itself: an ASR by labels needs no more, and holds also where a newer judge has been asked
since. `bures.jobs.labelling` draws the samples.

An answer that several rows share is asked about once. Such answers are mostly those that an intervention did not
change, so a label counts for a row only where the row's own sample drew it, and in an order that is settled before
anybody has seen an answer: of every batch that was drawn, up to the first answer that has not been asked about.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bures import durable
from bures.errors import ConfigError, RunError
from bures.results.labelled import RowLabels
from bures.results.marks import marks_of
from bures.results.schema import AuditResult, Marks
from bures.results.writing import alone, writing

Label = Literal["refusal", "partial refusal", "answer"]
"""What a person can say; a partial refusal counts as refused, as it does for the judges."""

LABELS: tuple[Label, ...] = get_args(Label)

SKIPPED = "skipped"
"""What is kept of an answer that a person would not label; it is asked about again."""

FOLDER = "labels"


class DrawnRow(BaseModel):
    """The sample of one row.

    Attributes:
        marks: of the judge that parts the answers, in the order of the test prompts.
        drawn: the answers of the sample and the batch in which each was drawn, by the hashes of their prompts.
    """

    model_config = ConfigDict(extra="forbid")

    marks: Marks
    drawn: dict[str, tuple[str, int]] = Field(default_factory=dict)


class LabelFile(BaseModel):
    """What one person said.

    Attributes:
        judge: whose verdicts part the answers.
        finished: when the audit became complete: labels are of the answers that it had then.
        said: labels by the names of the answers; the same prompt and answer have the same name in every row.
        rows: the samples, by the keys of the rows.
    """

    model_config = ConfigDict(extra="forbid")

    judge: str
    finished: str | None
    said: dict[str, Label | Literal["skipped"]] = Field(default_factory=dict)
    rows: dict[str, DrawnRow] = Field(default_factory=dict)

    def order(self) -> list[tuple[int, str]]:
        """The answers of all samples with their batches, each batch in random order."""
        found = {(batch, name) for row in self.rows.values() for name, batch in row.drawn.values()}
        return sorted(found, key=lambda each: (each[0], turn(f"{each[0]} {each[1]}")))

    def counted(self) -> set[tuple[int, str]]:
        """Of every batch, the answers up to the first that has not been asked about; without those skipped."""
        found: set[tuple[int, str]] = set()
        stopped: set[int] = set()
        for batch, name in self.order():
            if name not in self.said:
                stopped.add(batch)
            if batch not in stopped and self.said[name] != SKIPPED:
                found.add((batch, name))
        return found


@dataclass(frozen=True)
class Labels:
    """One person's labels of a run.

    Attributes:
        labeller: who said it.
        judge: whose verdicts part the answers.
        rows: what was said of each row that has at least one label.
    """

    labeller: str
    judge: str
    rows: Mapping[str, RowLabels] = field(default_factory=dict)

    @staticmethod
    def of(labeller: str, file: LabelFile, hashes: Sequence[str]) -> Labels:
        """The labels of a file.

        Args:
            labeller: whose file it is.
            file: what it holds.
            hashes: of the harmful test prompts, in the order of the rows' marks.

        Raises:
            RunError: the file is not of these prompts.
        """
        rows: dict[str, RowLabels] = {}
        counted = file.counted()
        for key, row in file.rows.items():
            if len(row.marks) != len(hashes) or not row.drawn.keys() <= set(hashes):
                raise RunError(f"the labels of {labeller!r} are of other test prompts than the run; label it again")
            judged = {h: not mark for h, mark in zip(hashes, marks_of(row.marks), strict=True) if mark is not None}
            said = {h: file.said[name] == "answer" for h, (name, n) in row.drawn.items() if (n, name) in counted}
            if said:
                rows[key] = RowLabels(judged, said, len(hashes) - len(judged))
        return Labels(labeller, file.judge, rows)


def turn(name: str) -> str:
    """By what names are put in order: at random, and the same for everybody."""
    return hashlib.sha256(f"label {name}".encode()).hexdigest()


def path_of(folder: Path, labeller: str) -> Path:
    """Where a person's labels of a run are."""
    return folder / FOLDER / f"{labeller}.json"


def labellers(folder: Path) -> list[str]:
    """Who labelled answers of a run."""
    return sorted(path.stem for path in (folder / FOLDER).glob("*.json"))


def read_file(folder: Path, labeller: str, finished: str | None) -> LabelFile | None:
    """A person's file; None where there is none.

    Args:
        folder: of the run.
        labeller: the person.
        finished: when the run became complete.

    Raises:
        RunError: it cannot be read, or is of an earlier run in this folder.
    """
    path = path_of(folder, labeller)
    if not path.exists():
        return None
    try:
        found = LabelFile.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"cannot read the labels {path} ({reason}); remove the file to begin again") from error
    if found.finished != finished:
        raise RunError(f"the labels {path} are of an earlier run in this folder; remove the file to begin again")
    return found


def write_file(folder: Path, labeller: str, file: LabelFile) -> None:
    """Writes a person's file whole, so that a killed session goes on where it was; its owner alone can read it."""
    path = path_of(folder, labeller)
    with writing(folder):
        durable.make_folder(path.parent, private=True)
        durable.write(path, json.dumps(file.model_dump(mode="json"), indent=1), private=True)


@contextmanager
def claimed(folder: Path, labeller: str) -> Generator[None]:
    """Inside the block nobody else labels this run under this name.

    Raises:
        RunError: somebody does, or the run folder cannot be written.
        ConfigError: the name cannot be that of a person's file.
    """
    require_name(labeller)
    with writing(folder):
        durable.make_folder(folder / FOLDER, private=True)
    lock = path_of(folder, labeller).with_name(f".{labeller}.lock")
    refusal = f"{labeller!r} labels {folder} in another session; end that one, or label as somebody else with --as"
    with alone(folder, lock, refusal):
        yield


def load_labels(folder: Path, labeller: str, result: AuditResult) -> Labels | None:
    """A person's labels of a finished audit; None where there are none.

    Raises:
        RunError: the file cannot be read, or is of other answers or prompts.
        ConfigError: the name cannot be that of a person's file.
    """
    require_name(labeller)
    file, tested = read_file(folder, labeller, result.finished), result.tested.get("harmful")
    if file is None or tested is None:
        return None
    found = Labels.of(labeller, file, tested.hashes)
    return found if found.rows else None


def require_name(labeller: str) -> None:
    """Raises `ConfigError` where a name cannot be a file's."""
    if (
        not labeller.isascii()
        or not 0 < len(labeller) <= 40
        or not labeller.replace("-", "").replace("_", "").isalnum()
    ):
        raise ConfigError(f"the labeller {labeller[:40]!r} cannot name a file; expected letters, digits, - and _")
