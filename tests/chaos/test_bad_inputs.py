"""Malformed inputs, each of which gets one line; `bad_inputs.py` alone says what every one of them is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import bad_inputs
from chaos.bad_inputs import Case

CASES = bad_inputs.cases()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs of which every case spoils one."""
    made = tmp_path_factory.mktemp("good")
    bad_inputs.write_good(made)
    return made


def test_there_are_many() -> None:
    assert len(CASES) > 380


def test_the_good_inputs_are_good(good: Path, tmp_path: Path) -> None:
    for command in (bad_inputs.scan(), bad_inputs.audit(), bad_inputs.READERS["gate"]):
        outcome = bad_inputs.attempt(Case("good", command), good, tmp_path / "w")
        assert outcome.wrong[0] in ("exit code 0", "exit code 1"), outcome


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_malformed_input_is_one_line(case: Case, good: Path, tmp_path: Path) -> None:
    outcome = bad_inputs.attempt(case, good, tmp_path / "w")
    assert outcome.wrong == [], outcome.said
