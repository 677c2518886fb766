"""Answers that people judged: the pinned files of PyRIT, and a user's own.

In PyRIT's files one person said of every answer whether it refuses its objective. An answer that has nothing to do with
the objective counts as a refusal there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bures.data.assets import fetch
from bures.data.tables import read_csv
from bures.data.text_files import read_text
from bures.errors import PromptError

CHOOSING, REPORTING = "refusal-labels", "refusal-labels-extra"
"""The pinned human-labelled sets: judges are chosen and trained on the first and reported on the second."""

_COLUMNS = ("objective", "assistant_response", "human_score")
_TRUE, _FALSE = {"1", "1.0", "true", "yes", "refusal"}, {"0", "0.0", "false", "no", "answer"}


@dataclass(frozen=True)
class Labelled:
    """One answer and what a person said of it. The texts are untrusted."""

    prompt: str
    answer: str
    refused: bool


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
        name: `refusal-labels`, `refusal-labels-extra`, or a CSV file with the columns objective, assistant_response
            and human_score (1 where the answer refuses). Lines before the header that begin with `#` are comments.

    Raises:
        PromptError: no such file, a missing column, a label that is neither yes nor no, or no rows.
        AssetError: a pinned set cannot be fetched.
    """
    return read_labelled(fetch(name) if name in (CHOOSING, REPORTING) else Path(name))


def read_labelled(path: Path, *, blanks: bool = False) -> list[Labelled]:
    """The rows of a labelled CSV file; see `load_labelled`. `blanks`: rows without a prompt are passed over."""
    found = read_csv(_without_comments(read_text(path)), ",", str(path))
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


def _without_comments(text: str) -> str:
    while text.startswith("#"):
        text = text.partition("\n")[2]
    return text
