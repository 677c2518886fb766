"""`import bures` costs nothing, and the check that says so can fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

import bures
from helpers.interpreter import imported_by


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert imported_by("import bures; bures.__version__; dir(bures)") == set()


def test_the_check_can_fail() -> None:
    assert "torch" in imported_by("import bures.models.loading")
    assert "torch" in imported_by("import bures; bures.load_model")


def test_reading_results_imports_neither_torch_nor_pandas() -> None:
    assert not imported_by("import bures.results.run_folder, bures.cli.tables") & {
        "torch",
        "transformers",
        "pandas",
        "datasets",
    }


def test_every_public_name_is_there_and_an_unknown_one_is_not() -> None:
    for name in bures.__all__:
        assert getattr(bures, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = bures.no_such_name


@pytest.mark.parametrize("first", ["audit", "Intervention"])
def test_public_functions_are_callable_whatever_was_used_before(first: str) -> None:
    used = f"import bures; bures.{first}; import bures.jobs.selection"
    code = f"{used}; assert callable(bures.collect) and callable(bures.generate)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
