"""`import bures` costs nothing, and the check that says so can fail."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

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


def test_what_is_cached_is_found_without_an_http_library() -> None:
    assert imported_by("import bures.data.assets as assets; assets.asset_status()") == set()
    assert imported_by("import bures.data.archives") == {"httpx2", "unearth"}


def test_every_public_name_is_there_and_an_unknown_one_is_not() -> None:
    assert len(bures.__all__) >= 28
    assert sorted(bures.__all__) == dir(bures)
    for name in bures.__all__:
        assert getattr(bures, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = getattr(bures, "no_such_name")  # noqa: B009


STUB = ast.parse(Path(bures.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
HOMES = {
    alias.name: f"bures.{node.module}" for node in STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names
}


def test_each_public_name_stands_once_in_the_stub_under_its_own_name() -> None:
    imports = [node for node in STUB.body if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in imports for alias in node.names]
    assert all(alias.asname == alias.name for node in imports for alias in node.names)
    assert sorted(names) == sorted(set(names)) == sorted(bures.__all__)


@pytest.mark.parametrize("order", [1, -1])
def test_no_public_name_is_hidden_by_a_module_whatever_was_used_before(order: int) -> None:
    """Submodules of the same name (`bures.jobs.scan`, `bures.jobs.search`, `bures.jobs.audit`) hide nothing."""
    homes = sorted(set(HOMES.values()))[::order]
    code = f"import bures, importlib\nfor home in {homes}: importlib.import_module(home)\n"
    code += f"for name in {bures.__all__[::order]}: assert type(getattr(bures, name)) is not type(bures), name"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_version_stands_in_one_place() -> None:
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/bures/__init__.py"
    assert f"\nversion: {bures.__version__}\n" in (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {bures.__version__}" in (root / "CHANGELOG.md").read_text(encoding="utf-8")
