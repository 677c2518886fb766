"""Rows of prompts out of files and tables: CSV, TSV, JSONL, JSON, Parquet, plain text.

No error message repeats the text of a prompt: it names the file, the row or line, and what is wrong with it.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bures.data.conversations import Prompt, as_prompt, parsed
from bures.data.home import require_hub_cache
from bures.data.tables import Table, read_csv, read_json, read_jsonl, read_parquet
from bures.data.text_files import lines_of, read_bytes, read_text
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
"""A row that fills one of these (Alpaca, Dolly, HarmBench) is not a prompt on its own; see `rows_of`."""

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
SUFFIXES = (*TABLE_SUFFIXES, ".txt")

OTHERS = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), "a workbook: save its sheet as CSV in UTF-8"),
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".pdf"), "a document: save its prompts as text in UTF-8"),
    **dict.fromkeys((".gz", ".zip", ".zst", ".xz", ".bz2", ".7z", ".tar"), "packed: unpack it first"),
    **dict.fromkeys((".pkl", ".pickle"), "a pickle, which may run code: save its prompts as JSONL or Parquet"),
}
"""What people have prompts in that is not read, by suffix, and what to do."""


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
    if suffix in OTHERS:
        raise PromptError(f"{path} is {OTHERS[suffix]}; prompts are read from {', '.join(SUFFIXES)}")
    if suffix == ".txt":
        if column is not None:
            raise PromptError(
                f"{path} is plain text, one prompt per line: it has no column {column!r}; name that of the other "
                "side by --harmful-column or --harmless-column"
            )
        lines = tuple(line for line in lines_of(read_text(path)) if line.strip())
        return Rows(lines, (None,) * len(lines))
    if suffix in {".csv", ".tsv"}:
        found = read_csv(read_text(path), "," if suffix == ".csv" else "\t", str(path))
    elif suffix in TABLE_SUFFIXES:
        found = {".parquet": read_parquet, ".jsonl": read_jsonl, ".json": read_json}[suffix](path)
    else:
        raise PromptError(f"cannot tell the format of {path}: expected one of {', '.join(SUFFIXES)}")
    return rows_of(found, column, str(path))


def rows_of(found: Table, column: str | None, where: str) -> Rows:
    """Pick the prompts and categories out of a table.

    Without `column`, the prompt column is the first of `PROMPT_COLUMNS` that is there, and a row whose context column
    (`CONTEXT_COLUMNS`) is filled is dropped and counted: without its context it is another prompt.
    With `column`, every row counts. `where` names the table in errors. Raises `PromptError`.
    """
    chosen = _column(found.columns, column, where)
    others = [name for name in found.columns if name != chosen]
    category = _first(others, CATEGORY_COLUMNS, where)
    context = [name for name in others if name.strip().casefold() in CONTEXT_COLUMNS]
    _require_once(found.columns, [chosen, *context, *([] if category is None else [category])], where)
    prompts: list[Prompt] = []
    categories: list[str | None] = []
    n_incomplete = 0
    for place, record in zip(found.places, found.records, strict=False):
        if column is None and any(_label(record.get(name)) for name in context):
            n_incomplete += 1
            continue
        prompts.append(_prompt(record.get(chosen), chosen, f"{where}, {place}"))
        categories.append(_label(record.get(category)) if category is not None else None)
    if n_incomplete and not prompts:
        raise PromptError(f"{where}: every row fills {_show(context)}, so none is a prompt on its own; name a column")
    return Rows(tuple(prompts), tuple(categories), n_incomplete)


def _column(columns: Sequence[str], column: str | None, where: str) -> str:
    """The prompt column: the one of that name (letter case and blanks around it matter only where two are alike)."""
    if column is None:
        chosen = _first(columns, PROMPT_COLUMNS, where)
    else:
        chosen = column if column in columns else _first(columns, (column.strip().casefold(),), where)
    if chosen is None:
        wanted = f"no column {column!r}" if column is not None else f"no prompt column ({', '.join(PROMPT_COLUMNS)})"
        raise PromptError(
            f"{where} has {wanted}; its columns are {_show(columns)}: name the one with the prompts by --column, or "
            "for one side by --harmful-column or --harmless-column"
        )
    return chosen


def _require_once(columns: Sequence[str], used: Sequence[str], where: str) -> None:
    for name in used:
        if columns.count(name) > 1:
            raise PromptError(f"{where} has {columns.count(name)} columns {_show([name])}; give each a name of its own")


def _prompt(cell: object, column: str, where: str) -> Prompt:
    """The prompt of one cell: a text, a list of messages, or, in a column of conversations, the JSON of one."""
    if isinstance(cell, str) and column.strip().casefold() in CONVERSATION_COLUMNS:
        cell = parsed(cell)
        if isinstance(cell, str) and cell.lstrip().startswith("["):
            raise PromptError(f"{where} is not valid JSON in column {_show([column])}; write conversations as JSON")
    if isinstance(cell, list | tuple) and any(isinstance(each, Mapping) for each in cast("Sequence[object]", cell)):
        return as_prompt(cast("object", cell), f"{where}, column {_show([column])}")
    if not isinstance(cell, str) or not cell.strip():
        is_blank = isinstance(cell, str) or _label(cell) is None
        problem = "is blank" if is_blank else f"is not text but a value of type {type(cell).__name__}"
        raise PromptError(f"{where} {problem} in column {_show([column])}; every row needs a prompt")
    return cell


def _first(columns: Sequence[str], wanted: Sequence[str], where: str) -> str | None:
    for name in wanted:
        alike = list(dict.fromkeys(column for column in columns if column.strip().casefold() == name))
        if len(alike) > 1:
            raise PromptError(f"{where} has the columns {_show(alike)}, which differ in letter case or blanks alone")
        if alike:
            return alike[0]
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
    return (str(value).lower() if isinstance(value, bool) else str(value).strip()) or None


def read_hub(source: str, column: str | None, split: str | None, revision: str | None) -> tuple[str, str | None, Rows]:
    """A dataset of the Hub: the split that was read, the commit that `revision` resolved to, and its rows.

    No code of the dataset is run. With `HF_HUB_OFFLINE` the local copy is read and the commit is `revision` as given.
    """
    require_hub_cache(f"the hub dataset {source}")
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
    return split, commit, rows_of(Table.of([str(name) for name in loaded.column_names], loaded), column, source)
