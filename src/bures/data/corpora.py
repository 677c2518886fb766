"""Running text on which perplexity is measured: pinned corpora by name, or a file."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bures.data.assets import ASSETS, fetch
from bures.data.home import expanded
from bures.data.text_files import read_text
from bures.errors import PromptError

CORPORA = ("wikipedia", "wikitext", "pile", "c4")
"""Names of the pinned corpora; each is the asset of its name."""

PILE_DOCUMENTS = 500
"""How many documents of the Pile's sample are read."""

PILE_CHARS = 2000
"""How much of each: its beginning, in characters, so that no long document stands for the whole."""


@dataclass(frozen=True)
class Corpus:
    """Running text for perplexity. `sha256` (hex) is of `text` in UTF-8, after any limit."""

    name: str
    source: str
    sha256: str
    text: str


def load_corpus(source: str | os.PathLike[str], *, limit_chars: int | None = None) -> Corpus:
    """Load a pinned corpus by its name in `CORPORA`, or a UTF-8 text file.

    `wikipedia` and `wikitext` are files as they lie; `pile` is the first `PILE_CHARS` characters of each of the first
    `PILE_DOCUMENTS` documents, and `c4` all of its own, with an empty line between two. `limit_chars` keeps that many
    leading characters.

    Raises `PromptError`: no such corpus or file, not UTF-8, blank; `AssetError` while fetching a pinned corpus.
    """
    if limit_chars is not None and limit_chars < 1:
        raise PromptError(f"limit_chars is {limit_chars}: expected 1 or more")
    pinned = isinstance(source, str) and source in CORPORA
    path = fetch(str(source)) if pinned else expanded(source)
    if not pinned and isinstance(source, str) and not path.suffix and len(path.parts) == 1 and not path.exists():
        raise PromptError(f"unknown corpus {source[:60]!r}: expected {', '.join(CORPORA)}, or a UTF-8 text file")
    read = {"pile": _beginnings, "c4": _documents}.get(str(source), read_text) if pinned else read_text
    text = read(path)[:limit_chars]
    if not text.strip():
        raise PromptError(f"corpus {path} is blank: expected text")
    name, origin = (str(source), ASSETS[str(source)].url) if pinned else (path.stem, str(path))
    return Corpus(name, origin, hashlib.sha256(text.encode("utf-8")).hexdigest(), text)


def _documents(path: Path) -> str:
    """The documents of a file with an object a line."""
    return "\n\n".join(str(json.loads(line)["text"]) for line in read_text(path).splitlines())


def _beginnings(path: Path) -> str:
    """The first characters of the first documents of a Parquet file with a column `text`."""
    parquet: Any = importlib.import_module("pyarrow.parquet")
    found = parquet.read_table(path, columns=["text"]).slice(0, PILE_DOCUMENTS)
    return "\n\n".join(str(text)[:PILE_CHARS] for text in found.column("text").to_pylist())
