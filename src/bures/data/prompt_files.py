"""Rows of prompts out of files and tables: CSV, TSV, JSONL, JSON, Parquet, plain text.

No error message repeats the text of a prompt: it names the file, the row or line, and what is wrong with it.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bures.data.conversations import Prompt, as_prompt, parsed
from bures.errors import PromptError, needs

CONVERSATION_COLUMNS = ("messages", "conversation", "conversations", "chat")

PROMPT_COLUMNS = (
    *("prompt", "instruction", "goal", "question", "text", "behavior", "forbidden_prompt", "query"),
    *CONVERSATION_COLUMNS,
)
"""Columns taken for the prompt, the first of these that a table has; letter case does not matter."""

CATEGORY_COLUMNS = ("category", "semantic_category", "semanticcategory", "harm_categories", "risk_area")
"""Columns taken for the category, likewise; a table needs none of them."""

CONTEXT_COLUMNS = ("input", "context", "contextstring")
"""A row that fills one of these (Alpaca, Dolly, HarmBench) is not a prompt on its own; see `table`."""

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
SUFFIXES = (*TABLE_SUFFIXES, ".txt")


@dataclass(frozen=True)
class Rows:
    """Prompts with their categories (None where there is none), and how many rows were not prompts on their own."""

    prompts: tuple[Prompt, ...]
    categories: tuple[str | None, ...]
    n_incomplete: int = 0


def read_file(path: Path, column: str | None) -> Rows:
    """The prompts of `path`, by its suffix. `column` names the prompt column of a table. Raises `PromptError`."""
    suffix = path.suffix.lower()
    if not path.is_file():
        read_bytes(path)  # raises: missing, or a folder
    if suffix == ".txt":
        if column is not None:
            raise PromptError(f"{path} is plain text, one prompt per line: it has no column {column!r}")
        lines = tuple(line for line in _lines(read_text(path)) if line.strip())
        return Rows(lines, (None,) * len(lines))
    if suffix not in TABLE_SUFFIXES:
        raise PromptError(f"cannot tell the format of {path}: expected one of {', '.join(SUFFIXES)}")
    if suffix in {".csv", ".tsv"}:
        columns, records = read_csv(read_text(path), "," if suffix == ".csv" else "\t", str(path))
    elif suffix == ".parquet":
        columns, records = _read_parquet(path)
    else:
        columns, records = _named(_read_jsonl(path) if suffix == ".jsonl" else _read_json(path), path)
    return table(columns, records, column, str(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of `path`; `PromptError` when there is no such file or it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise PromptError(f"no such file: {path}") from error
    except IsADirectoryError as error:
        raise PromptError(f"{path} is a folder: expected a file with prompts ({', '.join(SUFFIXES)})") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise PromptError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark; `PromptError` with the line of the first invalid byte."""
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
    # outside the handler, so that no traceback carries the bytes
    raise PromptError(f"{path} is not UTF-8: byte 0x{byte:02x} on line {line}; save it as UTF-8")


def table(columns: Sequence[str], records: Iterable[Mapping[str, object]], column: str | None, where: str) -> Rows:
    """Pick the prompts and categories out of named rows.

    Without `column`, the prompt column is the first of `PROMPT_COLUMNS` that is there, and a row whose context column
    (`CONTEXT_COLUMNS`) is filled is dropped and counted: without its context it is another prompt.
    With `column`, every row counts. `where` names the table in errors. Raises `PromptError`.
    """
    chosen = column if column is not None else _first(columns, PROMPT_COLUMNS)
    if chosen is None or chosen not in columns:
        wanted = f"no column {column!r}" if column is not None else f"no prompt column ({', '.join(PROMPT_COLUMNS)})"
        raise PromptError(
            f"{where} has {wanted}; its columns are {_show(columns)}: name the one with the prompts by --column"
        )
    category = _first([name for name in columns if name != chosen], CATEGORY_COLUMNS)
    context = [name for name in columns if name.casefold() in CONTEXT_COLUMNS and name != chosen]
    prompts: list[Prompt] = []
    categories: list[str | None] = []
    n_incomplete = 0
    for number, record in enumerate(records, start=1):
        if column is None and any(_label(record.get(name)) for name in context):
            n_incomplete += 1
            continue
        prompts.append(_prompt(record.get(chosen), chosen, f"{where}: row {number}"))
        categories.append(_label(record.get(category)) if category is not None else None)
    if n_incomplete and not prompts:
        raise PromptError(f"{where}: every row fills {_show(context)}, so none is a prompt on its own; name a column")
    return Rows(tuple(prompts), tuple(categories), n_incomplete)


def _prompt(cell: object, column: str, where: str) -> Prompt:
    """The prompt of one cell: a text, a list of messages, or, in a column of conversations, the JSON of one."""
    if isinstance(cell, str) and column.strip().casefold() in CONVERSATION_COLUMNS:
        cell = parsed(cell)
        if isinstance(cell, str) and cell.lstrip().startswith("["):
            raise PromptError(f"{where} is not valid JSON in column {_show([column])}; write conversations as JSON")
    if isinstance(cell, list | tuple) and any(isinstance(each, Mapping) for each in cast("Sequence[object]", cell)):
        return as_prompt(cast("object", cell), f"{where}, column {_show([column])}")
    if not isinstance(cell, str) or not cell.strip():
        problem = "is blank" if isinstance(cell, str) or _label(cell) is None else "is not text"
        raise PromptError(f"{where} {problem} in column {_show([column])}; every row needs a prompt")
    return cell


def _first(columns: Sequence[str], wanted: Sequence[str]) -> str | None:
    for name in wanted:
        for column in columns:
            if column.strip().casefold() == name:
                return column
    return None


def _show(columns: Sequence[str]) -> str:
    """Column names for a message. A file without a header row has a prompt for its "name", so a sentence is hidden."""
    plain = [
        name if re.fullmatch(r"[\w.-]+( [\w.-]+)?", name) and len(name) <= 40 else "(a sentence)" for name in columns
    ]
    return ", ".join(plain[:20]) + (", ..." if len(plain) > 20 else "") if plain else "none"


def _label(value: object) -> str | None:
    """A cell as a category: None for an empty one (also NaN), and the parts of a list joined by "; "."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, list | tuple):
        return "; ".join(str(part) for part in cast("Sequence[object]", value)) or None
    return str(value).strip() or None


def _lines(text: str) -> list[str]:
    """Lines ended by LF or CRLF alone: `str.splitlines` would also cut at form feeds and Unicode separators."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def read_csv(text: str, separator: str, where: str) -> tuple[list[str], list[dict[str, object]]]:
    """Columns and rows of a table with a header; `where` names it in errors. Raises `PromptError`."""
    pd: Any = importlib.import_module("pandas")  # here: `import bures` does not wait for it

    lines: list[list[str]] = []
    problem = ""
    try:
        # header=None: with a header, pandas silently takes the first field for an index when rows have one too many
        frame = pd.read_csv(io.StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False, engine="c")
        lines = frame.fillna("").to_numpy(dtype=object).tolist()
    except pd.errors.EmptyDataError:
        problem = "it is empty"
    except pd.errors.ParserError as error:
        problem = str(error).removeprefix("Error tokenizing data. C error: ")
    if problem:
        raise PromptError(f"{where} is not a valid table: {problem}; quote the fields that hold a separator or a quote")
    header, *rows = lines
    return header, [
        dict(zip(reversed(header), reversed(row), strict=True)) for row in rows
    ]  # first of equal names wins


def _read_parquet(path: Path) -> tuple[list[str], list[dict[str, object]]]:
    pa: Any = importlib.import_module("pyarrow")
    pq: Any = importlib.import_module("pyarrow.parquet")

    try:
        found = pq.read_table(io.BytesIO(read_bytes(path)))
    except (pa.ArrowException, OSError) as error:
        raise PromptError(f"{path} is not a valid Parquet file: {str(error)[:120]}") from error
    return list(found.column_names), cast("list[dict[str, object]]", found.to_pylist())


def _read_jsonl(path: Path) -> list[object]:
    numbered = enumerate(_lines(read_text(path)), start=1)
    return [_parse(line, f"{path}, line {number}") for number, line in numbered if line.strip()]


def _read_json(path: Path) -> list[object]:
    content = _parse(read_text(path), str(path))
    if not isinstance(content, list):
        raise PromptError(f"{path} holds one JSON value: expected a list of objects or of strings")
    return cast("list[object]", content)


def _parse(text: str, where: str) -> object:
    try:
        return cast("object", json.loads(text))
    except json.JSONDecodeError as error:
        problem = f"{error.msg}, column {error.colno}"
    except RecursionError:
        problem = "nested too deeply"
    raise PromptError(f"{where} is not valid JSON: {problem}")  # outside the handler: its traceback carries the text


def _named(values: list[object], path: Path) -> tuple[list[str], list[Mapping[str, object]]]:
    """JSON rows as a table: objects as they are, bare strings and conversations under the name `prompt`."""
    records: list[Mapping[str, object]] = []
    columns: dict[str, None] = {}
    for number, value in enumerate(values, start=1):
        record = {"prompt": value} if isinstance(value, str | list) else value
        if not isinstance(record, dict):
            raise PromptError(f"{path}: row {number} is neither a JSON object nor a string nor a conversation")
        records.append(cast("dict[str, object]", record))
        columns.update(dict.fromkeys(cast("dict[str, object]", record)))
    return list(columns), records


def read_hub(source: str, column: str | None, split: str | None, revision: str | None) -> tuple[str, str | None, Rows]:
    """A dataset of the Hub: the split that was read, the commit that `revision` resolved to, and its rows.

    No code of the dataset is run. With `HF_HUB_OFFLINE` the local copy is read and the commit is `revision` as given.
    """
    with needs("hub", f"the hub dataset {source!r}"):
        datasets = importlib.import_module("datasets")
        hub = importlib.import_module("huggingface_hub")
        errors = importlib.import_module("huggingface_hub.errors")
    # A refused connection is an error of the hub's HTTP library, and no OSError; which library depends on its version.
    http_error = cast("type[Exception]", errors.HfHubHTTPError.__bases__[0])
    try:
        commit = revision
        if not hub.constants.HF_HUB_OFFLINE:
            commit = cast("str | None", hub.HfApi().dataset_info(source, revision=revision, timeout=20).sha)
        loaded = datasets.load_dataset(source, split=split, revision=commit)
    except (OSError, ValueError, RuntimeError, http_error) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise PromptError(f"cannot load {source!r} from the hub ({reason}); check the id, split and network") from error
    if split is None:
        splits = [str(name) for name in loaded]
        if len(splits) != 1:
            raise PromptError(
                f"hub dataset {source!r} has the splits {', '.join(splits)}: name one, such as {source}:{splits[0]}"
            )
        split = splits[0]
        loaded = loaded[split]
    return split, commit, table([str(name) for name in loaded.column_names], loaded, column, source)
