"""What the package asks for is explained, and the oldest versions that it takes are those that are tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DIRECT = [Requirement(each) for each in PROJECT["project"]["dependencies"]]
TESTED = [
    *DIRECT,
    *(Requirement(each) for each in PROJECT["project"]["optional-dependencies"]["test"]),
    *(Requirement(each) for each in PROJECT["dependency-groups"]["build"]),
]


def explained(text: str) -> list[str]:
    """The packages of the table of a plain installation."""
    return re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| \d+ \|$", text.partition("### A plain installation")[2], re.M)


def test_the_table_of_a_plain_installation_names_what_the_package_asks_for() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    assert explained(text) == [canonicalize_name(wanted.name) for wanted in DIRECT]
    assert explained(text.replace("| `gguf` |", "| gguf |")) != explained(text)


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    pins = (Requirement(line) for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in pins}


@pytest.mark.parametrize("wanted", TESTED, ids=lambda wanted: wanted.name)
def test_the_oldest_versions_that_are_tested_are_the_lower_bounds(wanted: Requirement) -> None:
    bounds = [Version(each.version) for each in wanted.specifier if each.operator == ">="]
    assert [pinned()[canonicalize_name(wanted.name)]] == bounds
