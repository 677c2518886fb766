"""A person labels a random sample of a run's answers; every row gets an ASR that no judge's error can bias.

The sample is drawn row by row and, within a row, from the answers that the judge calls refused and from the others
(`bures.results.labelled`); it is shown in random order, without method or verdict. Which answers of a part are drawn is
settled by the hashes of their prompts, so that all rows, and other runs, have the same prompts labelled where they can:
an answer that several rows share is asked about once, and differences are of the same prompts.

Labels are kept in the run folder (`bures.results.labels`): hashes and labels, no text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bures.data.conversations import as_prompt, asked
from bures.errors import ConfigError, RunError
from bures.jobs.rejudge import answer_lines
from bures.judges.agreement import agreed
from bures.results.labelled import allocated
from bures.results.labels import (
    LABELS,
    SKIPPED,
    DrawnRow,
    Label,
    LabelFile,
    Labels,
    claimed,
    labellers,
    read_file,
    require_name,
    turn,
    write_file,
)
from bures.results.marks import marks_of
from bures.results.run_folder import RunFolder, load_result
from bures.results.schema import AuditResult
from bures.results.stats import Measurement


@dataclass(frozen=True)
class Shown:
    """One answer of the sample. The texts are untrusted; only a person who asks for them by name sees them."""

    key: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class RowAnswers:
    """The finished answers to harmful prompts of one row.

    Attributes:
        key: of the row.
        name: of the row, as tables show it.
        marks: of the judge that parts the answers, in the order of the test prompts.
        parts: the prompts whose answer it calls a success, and those whose answer it calls refused, by their hashes, in
            the order in which they are drawn.
        names: of the answers, by the hashes of their prompts; the same prompt and answer have the same in every row.
    """

    key: str
    name: str
    marks: str
    parts: tuple[list[str], list[str]]
    names: Mapping[str, str]

    @staticmethod
    def of(key: str, name: str, marks: str, names: Mapping[str, str]) -> RowAnswers:
        """The answers by the judge's marks; `names` are in the order of the test prompts."""
        parts: tuple[list[str], list[str]] = ([], [])
        for prompt, mark in zip(names, marks_of(marks), strict=True):
            if mark is not None:
                parts[mark].append(prompt)
        for part in parts:
            part.sort(key=turn)
        return RowAnswers(key, name, marks, parts, names)

    def drawn(self, n: int) -> dict[str, str]:
        """Names of n answers of both parts, by the hashes of their prompts."""
        sizes = allocated((len(self.parts[0]), len(self.parts[1])), n)
        return {key: self.names[key] for part, size in zip(self.parts, sizes, strict=True) for key in part[:size]}


@dataclass(frozen=True)
class LabelledRow:
    """What labels say of a row: its ASR, of how many labels, and the judge's own."""

    name: str
    labels: int
    asr: Measurement | None
    judged: Measurement | None


class Labelling:
    """A sample of a run's answers, and what one person said of them."""

    def __init__(
        self,
        folder: str | Path,
        n: int,
        *,
        labeller: str = "me",
        judge: str | None = None,
        rows: Sequence[str] = (),
    ) -> None:
        """Draws the sample and reads the labels that are there.

        Args:
            folder: a finished audit.
            n: answers to label, spread evenly over the rows.
            labeller: who labels; the name of the file.
            judge: by whose verdicts the sample is parted; None: that of the labels that are there, else the one that
                heads the run's table.
            rows: keys of the rows to label; none: all.

        Raises:
            RunError: no finished audit, or its completions are not those of its results.
            ConfigError: a judge or a row that is not there, another judge than that of the labels that are there, or a
                name that cannot be a file's.
        """
        require_name(labeller)
        self.run, self.labeller = RunFolder(Path(folder)), labeller
        self.result = load_result(folder, AuditResult)
        if self.result.status != "complete":
            raise RunError(f"the audit in {folder} has not finished; give its command again, then label it")
        there = read_file(self.run.path, labeller, self.result.finished)
        self._there, self._claimed = there, False
        self.file = LabelFile(judge=judge or self.result.judge, finished=self.result.finished)
        if there is not None:
            self.file = there.model_copy(deep=True)
        self.judge = self.file.judge
        if judge not in (None, self.judge):
            raise ConfigError(
                f"the labels of {labeller!r} part the answers by judge {self.judge!r}; leave out --judge, or label as "
                "somebody else with --as"
            )
        self.texts: dict[str, Shown] = {}
        self.rows = self._rows()
        self._draw(n, rows)

    @classmethod
    @contextmanager
    def session(cls, folder: str | Path, n: int, *, labeller: str = "me", **options: Any) -> Generator[Labelling]:
        """A labelling that nobody else who is called so can write while the block lasts; arguments as above.

        Raises:
            RunError: somebody labels the run under this name.
        """
        load_result(folder, AuditResult)  # what is none gets no folder of labels
        with claimed(Path(folder), labeller):
            labelling = cls(folder, n, labeller=labeller, **options)
            labelling._claimed = True
            yield labelling

    def _rows(self) -> list[RowAnswers]:
        lines = answer_lines(self.run, self.result)
        found: list[RowAnswers] = []
        for row in self.result.rows:
            if row.error is not None:
                continue
            known = self.file.rows.get(row.key)
            if known is None and self.judge not in row.refused:
                raise ConfigError(
                    f"judge {self.judge!r} was not asked in this run; expected one of {', '.join(row.refused)}"
                )
            marks = row.refused[self.judge] if known is None else known.marks
            names = {str(line["hash"]): self._named(line) for line in lines[row.key, "harmful"]}
            if known is not None and any(names.get(key) != name for key, (name, _) in known.drawn.items()):
                raise RunError(
                    f"the labels of {self.labeller!r} in {self.run.path} are of other answers; remove their file"
                )
            found.append(RowAnswers.of(row.key, f"{row.label} {row.sites}".strip(), marks, names))
        if not any(any(row.parts) for row in found):
            raise RunError(f"{self.run.path} has no finished answers to label")
        return found

    def _named(self, line: Mapping[str, Any]) -> str:
        """The name of an answer; its texts are kept for who is to see them."""
        prompt, answer = asked(as_prompt(line["prompt"], "prompt")), str(line["completion"])
        name = hashlib.sha256(json.dumps([line["hash"], answer]).encode()).hexdigest()[:20]
        self.texts[name] = Shown(name, prompt, answer)
        return name

    def _draw(self, n: int, keys: Sequence[str]) -> None:
        rows = [row for row in self.rows if any(row.parts) and (not keys or row.key in keys)]
        if missing := sorted({*keys} - {row.key for row in rows}):
            there = ", ".join(row.key for row in self.rows if any(row.parts))
            raise ConfigError(f"no row {', '.join(missing)} with finished answers; expected one of {there}")
        draw(self.file, rows, n)
        self.sample = [self.texts[name] for name in dict.fromkeys(name for _, name in self.file.order())]

    @property
    def left(self) -> list[Shown]:
        """What has no label yet."""
        return [shown for shown in self.sample if self.file.said.get(shown.key, SKIPPED) == SKIPPED]

    def say(self, key: str, label: Label | None) -> None:
        """Keeps a label, or that there is none; a killed session goes on where it was.

        Raises:
            RunError: the file is another than was read, or somebody labels the run under this name in a session.
        """
        path = self.run.path
        with nullcontext() if self._claimed else claimed(path, self.labeller):
            if read_file(path, self.labeller, self.result.finished) != self._there:
                raise RunError(f"somebody else has labelled {path} as {self.labeller!r} meanwhile; begin again")
            self.file.said[key] = label or SKIPPED
            write_file(path, self.labeller, self.file)
            self._there = self.file.model_copy(deep=True)

    def asr(self) -> list[LabelledRow]:
        """What the labels say of every row."""
        found = Labels.of(self.labeller, self.file, self.result.tested["harmful"].hashes).rows
        judged = {row.key: row.asr.get(self.judge) for row in self.result.rows}
        return [
            LabelledRow(
                row.name,
                len(found[row.key].said) if row.key in found else 0,
                found[row.key].asr if row.key in found else None,
                judged.get(row.key),
            )
            for row in self.rows
        ]

    def agreements(self) -> list[tuple[str, int, float, float | None]]:
        """With every other person who labelled answers of this run: name, answers of both, share agreed, kappa."""
        found: list[tuple[str, int, float, float | None]] = []
        for other in labellers(self.run.path):
            file = None if other == self.labeller else read_file(self.run.path, other, self.result.finished)
            both = [] if file is None else sorted(_labelled(self.file) & _labelled(file))
            if file is not None and both:
                mine, said = ([of.said[key] != "answer" for key in both] for of in (self.file, file))
                found.append((other, len(both), *agreed(mine, said)))
        return found


def draw(file: LabelFile, rows: Sequence[RowAnswers], n: int) -> None:
    """Draws a sample into a file: as many answers as asked for, those that rows share counted once.

    Args:
        file: where the sample goes; what it holds stays, and what is new is a batch of its own.
        rows: to draw from, evenly.
        n: answers.
    """
    drawn: list[dict[str, str]] = []
    for wanted in range(n, n + sum(len(row.names) for row in rows) + len(rows), len(rows)):
        each = [wanted // len(rows) + (place < wanted % len(rows)) for place in range(len(rows))]
        more = [row.drawn(size) for row, size in zip(rows, each, strict=True)]
        if drawn and len({name for sample in more for name in sample.values()}) > n:
            break
        drawn = more
    batch = 1 + max((number for row in file.rows.values() for _, number in row.drawn.values()), default=-1)
    for row, sample in zip(rows, drawn, strict=True):
        held = file.rows.setdefault(row.key, DrawnRow(marks=row.marks)).drawn
        held |= {key: (name, batch) for key, name in sample.items() if key not in held}


def _labelled(file: LabelFile) -> set[str]:
    """Names of the answers that have a label."""
    return {name for name, label in file.said.items() if label in LABELS}


def rows_to_dict(rows: Sequence[LabelledRow]) -> list[dict[str, Any]]:
    """Plain JSON types."""
    return [
        {
            "row": row.name,
            "labels": row.labels,
            "asr": None if row.asr is None else row.asr.to_dict(),
            "asr_by_judge": None if row.judged is None else row.judged.to_dict(),
        }
        for row in rows
    ]
