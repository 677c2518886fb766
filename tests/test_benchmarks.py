"""Scripts that need what the tests do not have run here in a small way, so that they still run where it is."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def test_the_accelerator_script_runs_dry(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--dry-run", "--shapes", "llama-3.1-8b"]
    ran = subprocess.run(
        [*words, "--json", str(tmp_path / "gpu.json")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert kept["device"] == "CPU, a dry run"
    (found,) = kept["shapes"]
    assert found["shape"] == "llama-3.1-8b"
    assert found["hooks_bare_graph_breaks"] == 0
    assert all(found[name] > 0 for name in ("collect_mfu", "hooks_eager_batch_1", "hooks_compiled"))


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """What the benchmarks share, writing elsewhere."""
    spec = importlib.util.spec_from_file_location("turns", ROOT / "benchmarks" / "turns.py")
    assert spec is not None
    assert spec.loader is not None
    made: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    monkeypatch.setattr(made, "RESULTS", tmp_path / "results")
    return made


def test_ratios_are_of_medians(turns: Any) -> None:
    found = turns.compared([(1.0, 0.5), (9.0, 4.0), (2.0, 1.0)], [(4.0, 4.0), (4.0, 2.0), (5.0, 5.0)])
    assert found == {"ours_s": 2.0, "theirs_s": 4.0, "ratio": 0.5, "ratio_processor": 0.25, "rounds": 3}


def test_sides_take_turns_at_being_first(turns: Any) -> None:
    order: list[str] = []
    found = turns.in_turns(lambda: order.append("ours"), lambda: order.append("theirs"), 3)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert found["rounds"] == 3


def test_what_failed_is_a_line_of_the_page_and_takes_no_figure_away(turns: Any, tmp_path: Path) -> None:
    row = {"ours": "a fit", "theirs": "a peer", "equal": "rows"} | turns.compared([(1.0, 1.0)], [(2.0, 2.0)])
    turns.keep("fit", [row], note="Little else ran")
    for part in ("fit", "search"):
        turns.failed(part, "no such package")
    turns.write_page()
    page = (tmp_path / "README.md").read_text()
    assert "| a fit | a peer | 0.500 | 0.500 | 1 / 2 | 1 | rows |" in page
    assert "| search | its peers | not run: no such package | | | | |" in page
    assert page.count("no such package") == 1
    assert "Little else ran." in page
