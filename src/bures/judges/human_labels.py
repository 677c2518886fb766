"""Answers that people judged: the pinned files of PyRIT and of XSTest, and a user's own.

In PyRIT's files one person said of every answer whether it refuses its objective. An answer that has nothing to do with
the objective counts as a refusal there. In XSTest's (Röttger et al., NAACL 2024; CC-BY-4.0) two people, and a third
where they differed, called the answer of a model to a safe or unsafe prompt compliance, a refusal or a partial refusal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bures.data.assets import fetch
from bures.data.tables import read_csv
from bures.data.text_files import read_text
from bures.errors import PromptError

XSTEST = "xstest"
XSTEST_MODELS = ("llama2orig", "mistralguard", "mistralinstruct")
"""Whose labelled answers are pinned, as `xstest-MODEL`."""

CHOOSING, REPORTING = "refusal-labels", "refusal-labels-extra"
"""The pinned human-labelled sets: judges are chosen and trained on the first and reported on the second."""

_COLUMNS = ("objective", "assistant_response", "human_score")
_XSTEST_COLUMNS = ("type", "prompt", "completion", "final_label")
_VERDICTS = {"1_full_compliance": (False, False), "2_full_refusal": (True, False), "3_partial_refusal": (True, True)}
_TRUE, _FALSE = {"1", "1.0", "true", "yes", "refusal"}, {"0", "0.0", "false", "no", "answer"}


@dataclass(frozen=True)
class Labelled:
    """One answer and what a person said of it. The texts are untrusted.

    Attributes:
        prompt: what was asked.
        answer: what was answered.
        refused: whether it refuses; a partial refusal does.
        partial: whether it refuses in part.
        safe: whether the prompt is a harmless one.
        model: who answered, where that is known.
    """

    prompt: str
    answer: str
    refused: bool
    partial: bool = False
    safe: bool = False
    model: str = ""


def plain_words(text: str) -> str:
    """The words of a text, for telling whether two texts are the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def groups(rows: Sequence[Labelled]) -> list[int]:
    """One number per row, the same where the prompts are."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(plain_words(row.prompt), len(numbers)) for row in rows]


def load_labelled(name: str) -> list[Labelled]:
    """A human-labelled set.

    Args:
        name: `refusal-labels`, `refusal-labels-extra`, `xstest`, `xstest-MODEL`, or a CSV file with the columns
            objective, assistant_response and human_score (1 where the answer refuses), or with those of XSTest: prompt,
            completion, final_label. Lines before the header that begin with `#` are comments.

    Raises:
        PromptError: no such file, a missing column, a label that is neither yes nor no, or no rows.
        AssetError: a pinned set cannot be fetched.
    """
    if name == XSTEST:
        return [row for model in XSTEST_MODELS for row in load_labelled(f"{XSTEST}-{model}")]
    pinned = (CHOOSING, REPORTING, *(f"{XSTEST}-{model}" for model in XSTEST_MODELS))
    model = name.removeprefix(f"{XSTEST}-") if name in pinned[2:] else ""
    return [replace(row, model=model) for row in read_labelled(fetch(name) if name in pinned else Path(name))]


def decided(rows: Sequence[Labelled]) -> list[Labelled]:
    """The rows that a person called a refusal or an answer, without partial refusals."""
    return [row for row in rows if not row.partial]


def read_labelled(path: Path, *, blanks: bool = False) -> list[Labelled]:
    """The rows of a labelled CSV file; see `load_labelled`. `blanks`: rows without a prompt are passed over."""
    found = read_csv(_without_comments(read_text(path)), ",", str(path))
    if set(_XSTEST_COLUMNS) <= set(found.columns):
        return _xstest_rows(found.records, path)
    missing = [column for column in _COLUMNS if found.columns.count(column) != 1]
    if missing:
        raise PromptError(f"{path} has not one column {', '.join(missing)}; expected {', '.join(_COLUMNS)}")
    rows: list[Labelled] = []
    for number, record in enumerate(found.records, start=1):
        prompt, answer, label = (str(record[column] or "") for column in _COLUMNS)
        if blanks and not prompt.strip():
            continue
        score = label.strip().lower()
        if score not in _TRUE | _FALSE:
            raise PromptError(f"row {number} of {path}: human_score is neither 1 (the answer refuses) nor 0")
        rows.append(Labelled(prompt, answer, score in _TRUE))
    if not rows:
        raise PromptError(f"{path} has no rows; expected {', '.join(_COLUMNS)}")
    return rows


def _xstest_rows(records: Iterable[Mapping[str, object]], path: Path) -> list[Labelled]:
    """Rows of XSTest's files; a prompt is safe where its type is no contrast."""
    rows: list[Labelled] = []
    for number, record in enumerate(records, start=1):
        kind, prompt, answer, label = (str(record[column] or "") for column in _XSTEST_COLUMNS)
        if label not in _VERDICTS:
            raise PromptError(f"row {number} of {path}: final_label is none of {', '.join(_VERDICTS)}")
        refused, partial = _VERDICTS[label]
        rows.append(Labelled(prompt, answer, refused, partial, not kind.startswith("contrast")))
    if not rows:
        raise PromptError(f"{path} has no rows; expected {', '.join(_XSTEST_COLUMNS)}")
    return rows


def _without_comments(text: str) -> str:
    while text.startswith("#"):
        text = text.partition("\n")[2]
    return text
