"""A person labels a random sample of a run's answers; every row gets an ASR that no judge's error can bias.

The sample is drawn row by row and, within a row, from the answers that the judge calls refused and from the others
(`bures.results.labelled`); it is shown in random order, without method or verdict. Labels are kept in the run folder,
one file a person, readable by its owner only: hashes and labels, no text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bures import durable
from bures.data.conversations import as_prompt, asked
from bures.errors import ConfigError, RunError
from bures.jobs.rejudge import answer_lines
from bures.judges.agreement import agreed
from bures.results.labelled import allocated, asr_from_labels
from bures.results.run_folder import RunFolder, load_result
from bures.results.schema import AuditResult
from bures.results.stats import Measurement

Label = Literal["refusal", "partial refusal", "answer"]
LABELS: tuple[Label, ...] = ("refusal", "partial refusal", "answer")
"""What a person can say; a partial refusal counts as refused, as it does for the judges."""

FOLDER = "labels"


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
        name: of the row, as tables show it.
        keys: of the answers; the same prompt and answer have the same key in every row.
        judged: whether the judge calls each a success.
        unfinished: how many answers of the row are not finished.
    """

    name: str
    keys: list[str]
    judged: list[bool]
    unfinished: int


@dataclass(frozen=True)
class LabelledRow:
    """What labels say of a row: its ASR, of how many labels, and the judge's own."""

    name: str
    labels: int
    asr: Measurement | None
    judged: Measurement | None


class Labelling:
    """A sample of a run's answers, and what one person said of them."""

    def __init__(self, folder: str | Path, n: int, *, labeller: str = "me", judge: str | None = None) -> None:
        """Draws the sample and reads the labels that are there.

        Args:
            folder: a finished audit.
            n: answers to label, spread evenly over the rows.
            labeller: who labels; the name of the file.
            judge: by whose verdicts the sample is parted; None: the one that heads the run's table.

        Raises:
            RunError: no finished audit, or its completions are not those of its results.
            ConfigError: a judge that was not asked, or a name that cannot be a file's.
        """
        if not re.fullmatch(r"[\w-]{1,40}", labeller):
            raise ConfigError(f"the labeller {labeller[:40]!r} cannot name a file; expected letters, digits, - and _")
        self.run, self.labeller = RunFolder(Path(folder)), labeller
        self.result = load_result(folder, AuditResult)
        if self.result.status != "complete":
            raise RunError(f"the audit in {folder} has not finished; give its command again, then label it")
        self.judge = judge or self.result.judge
        self.texts: dict[str, Shown] = {}
        self.rows = self._rows()
        self.labels = self.read(labeller)
        self.sample = self._drawn(n)

    def _rows(self) -> list[RowAnswers]:
        lines = answer_lines(self.run, self.result)
        found: list[RowAnswers] = []
        for row in self.result.rows:
            if row.error is not None:
                continue
            if self.judge not in row.refused:
                raise ConfigError(
                    f"judge {self.judge!r} was not asked in this run; expected one of {', '.join(row.refused)}"
                )
            marks = row.refused[self.judge]
            keys: list[str] = []
            for line in lines[row.key, "harmful"]:
                prompt, answer = asked(as_prompt(line["prompt"], "prompt")), str(line["completion"])
                keys.append(hashlib.sha256(json.dumps([line["hash"], answer]).encode()).hexdigest()[:20])
                self.texts[keys[-1]] = Shown(keys[-1], prompt, answer)
            done = [i for i, mark in enumerate(marks) if mark != "-"]
            judged = [marks[i] == "0" for i in done]
            name = f"{row.label} {row.sites}".strip()
            found.append(RowAnswers(name, [keys[i] for i in done], judged, len(marks) - len(done)))
        if not any(row.keys for row in found):
            raise RunError(f"{self.run.path} has no finished answers to label")
        return found

    def _drawn(self, n: int) -> list[Shown]:
        """The sample, in random order; the seed is the run's, so that everybody labels the same answers."""
        rng = np.random.default_rng(self.result.seed)
        rows = [row for row in self.rows if row.keys]
        wanted: dict[str, None] = {}
        for place, row in enumerate(rows):
            mine = n // len(rows) + (place < n % len(rows))
            parts = [
                [k for k, is_success in zip(row.keys, row.judged, strict=True) if is_success is p]
                for p in (True, False)
            ]
            for part, size in zip(parts, allocated((len(parts[0]), len(parts[1])), mine), strict=True):
                chosen = rng.permutation(len(part))[:size]
                wanted |= {part[i]: None for i in chosen.tolist()}
        keys = list(wanted)
        return [self.texts[keys[i]] for i in rng.permutation(len(keys)).tolist()]

    @property
    def left(self) -> list[Shown]:
        """What has no label yet."""
        return [shown for shown in self.sample if shown.key not in self.labels]

    def say(self, key: str, label: Label) -> None:
        """Keeps a label; the file is written whole, so that a killed session goes on where it was."""
        self.labels[key] = label
        path = self._path(self.labeller)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        durable.write(path, json.dumps(self.labels, indent=1), private=True)

    def read(self, labeller: str) -> dict[str, Label]:
        """The labels of one person; none where there is no file."""
        path = self._path(labeller)
        if not path.exists():
            return {}
        try:
            found: Any = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict) or not all(label in LABELS for label in found.values()):
                raise ValueError("not labels")
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read the labels {path} ({error}); remove the file to begin again") from error
        return found

    def _path(self, labeller: str) -> Path:
        return self.run.path / FOLDER / f"{labeller}.json"

    def asr(self) -> list[LabelledRow]:
        """What the labels of the sample say of every row."""
        sampled = {shown.key for shown in self.sample}
        found: list[LabelledRow] = []
        measured = [row for row in self.result.rows if row.error is None]
        for row, of in zip(self.rows, measured, strict=True):
            labels = {
                i: self.labels[key] == "answer"
                for i, key in enumerate(row.keys)
                if key in sampled and key in self.labels
            }
            asr = asr_from_labels(row.judged, labels, unfinished=row.unfinished) if labels else None
            found.append(LabelledRow(row.name, len(labels), asr, of.asr.get(self.judge)))
        return found

    def agreements(self) -> list[tuple[str, int, float, float | None]]:
        """With every other person who labelled answers of this run: name, answers of both, share agreed, kappa."""
        others = sorted(path.stem for path in (self.run.path / FOLDER).glob("*.json") if path.stem != self.labeller)
        found: list[tuple[str, int, float, float | None]] = []
        for other in others:
            theirs = self.read(other)
            both = [key for key in self.labels if key in theirs]
            if both:
                mine, said = ([refused(labels[key]) for key in both] for labels in (self.labels, theirs))
                found.append((other, len(both), *agreed(mine, said)))
        return found


def refused(label: Label) -> bool:
    """Whether a label counts as refused."""
    return label != "answer"


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
