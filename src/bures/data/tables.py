"""Tables out of CSV, TSV, JSON, JSONL and Parquet: every cell is the text that it is in the file, or has its JSON type.

What cannot be read for certain (a row with a cell too many, a quote left open) is refused with its line. No message
repeats the text of a cell.
"""

from __future__ import annotations

import csv
import importlib
import io
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bures.data.text_files import lines_of, read_bytes, read_text
from bures.errors import PromptError

_BEHIND_A_BLANK = re.compile(r'\s+".*"\s*', re.DOTALL)
"""A cell whose quotes are part of it, because a blank stands before them; nobody means that."""


@dataclass(frozen=True)
class Table:
    """Named rows.

    Attributes:
        columns: their names, in order; one that occurs twice stands there twice.
        records: the rows, to be gone through once; of columns with one name the first holds.
        places: where each row stands, in words ("line 3"), likewise.
    """

    columns: tuple[str, ...]
    records: Iterable[Mapping[str, object]]
    places: Iterable[str]

    @classmethod
    def of(cls, columns: Sequence[str], records: Iterable[Mapping[str, object]]) -> Table:
        """A table whose rows are counted as they are read: a dataset may be larger than memory."""
        return cls(tuple(columns), records, (f"row {number}" for number in itertools.count(1)))


def read_csv(text: str, separator: str, where: str) -> Table:
    """A table with a header; `where` names it in errors. Raises `PromptError`."""
    rows = _csv_rows(text, separator, where)
    if not rows:
        raise PromptError(f"{where} is not a valid table: it is empty")
    (_, header), *rest = rows
    name = {",": "comma", "\t": "tab"}[separator]
    other = next((mark for mark in ";\t,|" if mark != separator and len(header) == 1 and mark in header[0]), None)
    if other is not None and all(cells[0].count(other) == header[0].count(other) for _, cells in rows):
        raise PromptError(f"{where} has no {name} in its header but {other!r}: save it with a {name} between the cells")
    for line, cells in rest:
        if len(cells) != len(header):
            raise PromptError(
                f"{where}, line {line} has {len(cells)} cells where the header has {len(header)}; put a cell that "
                f"holds a {name}, a quote or a line break into quotes"
            )
        if any(map(_BEHIND_A_BLANK.fullmatch, cells)):
            raise PromptError(f"{where}, line {line} has a blank before a quote; take it out, or the quotes are text")
    return Table(
        tuple(header),
        tuple(dict(zip(reversed(header), reversed(cells), strict=True)) for _, cells in rest),
        tuple(f"line {line}" for line, _ in rest),
    )


def _csv_rows(text: str, separator: str, where: str) -> list[tuple[int, list[str]]]:
    """The rows that hold anything, each with the line on which it begins."""
    rows: list[tuple[int, list[str]]] = []
    begins, problem = 1, ""
    limit = csv.field_size_limit(len(text) + 1)  # of the whole process, and too small for long prompts
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for cells in reader:
            if cells:
                rows.append((begins, cells))
            begins = reader.line_num + 1
    except csv.Error as error:
        is_open = "unexpected end" in str(error)
        problem = "a quote is opened and never closed" if is_open else "text follows a closing quote"
    finally:
        csv.field_size_limit(limit)
    if problem:
        raise PromptError(
            f"{where} is not a valid table: in the row that begins on line {begins} {problem}; "
            "write a quote inside a quoted cell twice"
        )
    return rows


def read_parquet(path: Path) -> Table:
    """A Parquet file. Raises `PromptError`."""
    pa: Any = importlib.import_module("pyarrow")
    pq: Any = importlib.import_module("pyarrow.parquet")

    try:
        found = pq.read_table(io.BytesIO(read_bytes(path)))
        columns = [str(name) for name in found.column_names]
        cells = {name: found.column(columns.index(name)).to_pylist() for name in columns}
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # text that is no UTF-8, years past 9999
        raise PromptError(f"{path} is not a valid Parquet file: {str(error)[:120]}") from error
    return Table.of(columns, [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)])


def read_jsonl(path: Path) -> Table:
    """A file with one JSON value a line: objects, or bare strings and conversations. Raises `PromptError`."""
    numbered = [(f"line {n}", line) for n, line in enumerate(lines_of(read_text(path)), start=1) if line.strip()]
    return _named([(place, _parsed(line, f"{path}, {place}")) for place, line in numbered], path)


def read_json(path: Path) -> Table:
    """A file with one JSON list of what `read_jsonl` has on lines. Raises `PromptError`."""
    content = _parsed(read_text(path), str(path))
    if not isinstance(content, list):
        raise PromptError(f"{path} holds one JSON value: expected a list of objects or of strings")
    return _named([(f"row {n}", value) for n, value in enumerate(cast("list[object]", content), start=1)], path)


def _parsed(text: str, where: str) -> object:
    try:
        return cast("object", json.loads(text, object_pairs_hook=_object))
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON: {error.msg}, column {error.colno}"
    except RecursionError:
        problem = "is not valid JSON: nested too deeply"
    except _TwiceError:
        problem = "has an object with two values of one name; keep one of them"
    except ValueError:
        problem = "has a number of thousands of digits, which Python does not read"
    raise PromptError(f"{where} {problem}")  # outside the handler: its traceback carries the text


class _TwiceError(Exception):
    """An object names a key twice, and a parser would keep the last without a word."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError
    return found


def _named(values: Sequence[tuple[str, object]], path: Path) -> Table:
    """JSON rows as a table: objects as they are, bare strings and conversations under the name `prompt`."""
    records: list[Mapping[str, object]] = []
    columns: dict[str, None] = {}
    for place, value in values:
        record = {"prompt": value} if isinstance(value, str | list) else value
        if not isinstance(record, dict):
            raise PromptError(f"{path}, {place} is neither a JSON object nor a string nor a conversation")
        records.append(cast("dict[str, object]", record))
        columns.update(dict.fromkeys(cast("dict[str, object]", record)))
    return Table(tuple(columns), tuple(records), tuple(place for place, _ in values))
