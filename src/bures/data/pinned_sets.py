"""The pinned prompt sets: their parts, the assets that each is read from, and how its files are read."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
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
        "rho-edgy": SPLIT,
        "rho-pairs": SPLIT,  # the harmful prompts
        "rho-pairs-benign": SPLIT,
        "weighted-safety": SPLIT,  # the harmful prompts
        "weighted-safety-benign": SPLIT,
        "chat": {"organism": _ALL},
    }
)
"""Pinned sets, their parts, and the hash buckets (`int(prompt_hash, 16) % 10`) that make up each part."""


_SAME_FILES: Mapping[str, str] = MappingProxyType(
    {"xstest-unsafe": "xstest", "rho-pairs-benign": "rho-pairs", "weighted-safety-benign": "weighted-safety"}
)
"""Sets whose prompts stand beside those of another, in the same files."""


def assets_of(name: str) -> tuple[str, ...]:
    """The assets that a pinned set is read from: the one of its name, or all whose names begin with it and a dash."""
    name = _SAME_FILES.get(name, name)
    return (name,) if name in ASSETS else tuple(key for key in ASSETS if key.startswith(f"{name}-"))


def pinned_rows(name: str) -> Rows:
    """The prompts of a pinned set; where it has several files, a prompt's category is its file."""
    names = assets_of(name)
    if names == ("xstest",):
        return _xstest("unsafe" if name == "xstest-unsafe" else "safe")
    if names == ("weighted-safety",):
        return _weighted_safety("comply" if name.endswith("-benign") else "refusal")
    if name == "rho-edgy":
        rows = [row for each in names for row in _records(each)]
        return Rows(tuple(row["text"] for row in rows), tuple(row["category"] for row in rows))
    if name.startswith("rho-pairs"):
        return _first_lines(names, "text" if name.endswith("-benign") else "harmful_version")
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


def _weighted_safety(target: str) -> Rows:
    """The prompts that are to be refused, or the benign ones; with their category."""
    lines = read_text(fetch("weighted-safety")).splitlines()
    rows = [row for line in lines if line.strip() and (row := json.loads(line))["target"] == target]
    return Rows(tuple(row["input"] for row in rows), tuple(row["metadata"]["category"] for row in rows))


def _records(asset: str) -> list[dict[str, Any]]:
    """The records of a JSON file that is a list of them."""
    found: list[dict[str, Any]] = json.loads(read_text(fetch(asset)))
    return found


def _first_lines(names: Sequence[str], column: str) -> Rows:
    """One side of pairs, each text cut at its first line: what follows is an answer."""
    prompts = tuple(str(row[column]).split("\n", 1)[0].strip() for each in names for row in _records(each))
    return Rows(prompts, (None,) * len(prompts))


def _first_messages(path: Path) -> Rows:
    """What the person says first, in conversations of either of the two usual forms, without a system message."""
    conversations: list[dict[str, Any]] = json.loads(read_text(path))
    found = []
    for each in conversations:
        first = (each.get("conversations") or each["messages"])[0]
        if first.get("from", first.get("role")) in {"human", "user"}:
            found.append(first.get("value", first.get("content")))
    return Rows(tuple(found), (None,) * len(found))
