"""The pinned prompt sets: their parts, the assets that each is read from, and how its files are read."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bures.data.assets import ASSETS, fetch
from bures.data.prompt_files import Rows, read_file, rows_of
from bures.data.tables import Table, read_csv
from bures.data.text_files import read_text

N_BUCKETS = 10
_ALL = tuple(range(N_BUCKETS))
SPLIT: Mapping[str, tuple[int, ...]] = MappingProxyType({"fit": tuple(range(5)), "select": (5, 6), "test": (7, 8, 9)})
"""The shares of a set that is fitted on, chosen on and measured on: the hash buckets that make up each."""

PARTS: Mapping[str, Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "harmbench": {"select": (0, 1), "test": tuple(range(2, 10))},
        "advbench": {"fit": _ALL},
        "jailbreakbench": SPLIT,
        "strongreject": SPLIT,
        "do-not-answer": {"organism": _ALL},
        "pyrit": {"organism": tuple(range(6)), "select": (6, 7, 8, 9)},
        "spikee": {"select": _ALL},
        "alpaca": {
            "fit": SPLIT["fit"],
            "organism": SPLIT["fit"],  # trains the model organism; never mixed with "select" or "test"
            "select": SPLIT["select"],
            "test": SPLIT["test"],
        },
        "jailbreakbench-benign": SPLIT,
        "xstest": SPLIT,  # the safe prompts
        "xstest-unsafe": SPLIT,
        "chat": {"organism": _ALL},
    }
)
"""Pinned sets, their parts, and the hash buckets (`int(prompt_hash, 16) % 10`) that make up each part."""


def assets_of(name: str) -> tuple[str, ...]:
    """The assets that a pinned set is read from: the one of its name, or all whose names begin with it and a dash."""
    if name == "xstest-unsafe":  # its contrasts are in the same file
        return ("xstest",)
    return (name,) if name in ASSETS else tuple(key for key in ASSETS if key.startswith(f"{name}-"))


def pinned_rows(name: str) -> Rows:
    """The prompts of a pinned set; where it has several files, a prompt's category is its file."""
    names = assets_of(name)
    if names == ("xstest",):
        return _xstest("unsafe" if name == "xstest-unsafe" else "safe")
    if len(names) == 1:
        return _read(name)
    rows = [_read(each) for each in names]
    labels = [each.removeprefix(f"{name}-") for each in names]
    return Rows(
        tuple(prompt for each in rows for prompt in each.prompts),
        tuple(label for label, each in zip(labels, rows, strict=True) for _ in each.prompts),
    )


def _read(name: str) -> Rows:
    path = fetch(name)
    if name == "advbench":
        yaml = importlib.import_module("yaml")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        seeds = yaml.load(read_text(path), Loader=loader)["seeds"]
        return rows_of(Table.of(("value", "harm_categories"), seeds), "value", name)
    if name.startswith("pyrit-"):
        _, _, text = read_text(path).partition("\n")  # the first line is a comment with the version
        found = read_csv(text, ",", str(path))
        filled = [row for row in found.records if str(row["objective"]).strip()]
        return rows_of(Table.of(found.columns, filled), "objective", name)
    if name.startswith("chat-"):
        return _first_messages(path)
    return read_file(path, None)


def _xstest(label: str) -> Rows:
    """XSTest's safe or unsafe prompts; their category is their kind."""
    path = fetch("xstest")
    rows = [row for row in read_csv(read_text(path), ",", str(path)).records if row["label"] == label]
    return Rows(tuple(str(row["prompt"]) for row in rows), tuple(str(row["type"]) for row in rows))


def _first_messages(path: Path) -> Rows:
    """What the person says first, in conversations of either of the two usual forms, without a system message."""
    conversations: list[dict[str, Any]] = json.loads(read_text(path))
    found = []
    for each in conversations:
        first = (each.get("conversations") or each["messages"])[0]
        if first.get("from", first.get("role")) in {"human", "user"}:
            found.append(first.get("value", first.get("content")))
    return Rows(tuple(found), (None,) * len(found))
