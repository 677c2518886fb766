"""Scripts that need what the tests do not have run here in a small way, so that they still run where it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
