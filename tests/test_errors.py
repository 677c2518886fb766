"""A missing extra is told in one wording, by one helper, and with an extra that exists."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from bures.errors import ConfigError, needs

ROOT = Path(__file__).parents[1]
SOURCES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "src" / "bures").rglob("*.py")}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def test_a_missing_package_is_one_line_with_what_to_run() -> None:
    with pytest.raises(ConfigError) as caught, needs("search", "a search"):
        import no_such_package  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
    told = "a search needs a package that is missing (No module named 'no_such_package'); pip install 'bures[search]'"
    assert str(caught.value) == told


def test_what_is_wrong_with_bures_itself_or_is_no_import_stays_as_it_is() -> None:
    with pytest.raises(ModuleNotFoundError), needs("search", "a search"):
        import bures.no_such_module  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
    with pytest.raises(ZeroDivisionError), needs("search", "a search"):
        _ = 1 / 0


def test_nothing_is_said_where_nothing_is_missing() -> None:
    with needs("search", "a search"):
        import json
    assert json.loads("1") == 1


def test_nobody_words_their_own() -> None:
    own = [
        f"{path.name}:{node.lineno}"
        for path, text in SOURCES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Raise) and "pip install 'bures[" in (ast.get_source_segment(text, node) or "")
    ]
    assert len(own) == 1
    assert own[0].startswith("errors.py:")


def test_every_extra_that_is_named_exists() -> None:
    named = [extra for text in SOURCES.values() for extra in re.findall(r"""\bneeds\("([\w-]+)",""", text)]
    named += [
        extra for text in SOURCES.values() for extra in re.findall(r"""\bEXTRA = "([\w-]+)"$""", text, re.MULTILINE)
    ]
    expected = {"hub", "search", "postgres", "judge", "inspect", "lm-eval", "vllm", "quantization"}
    assert expected == set(named) <= EXTRAS.keys()
