"""Runs the README's own commands: every fenced block whose info string is `sh run` or `python run`.

    python tests/readme_commands.py

A block is run as it stands, by the interpreter that runs this script; a failing command fails the script.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(sh|python) run\n(.*?)^```", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Runs all blocks, in order, in one empty folder."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    if not blocks:
        print("the README has no runnable block")
        return 1
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        for language, code in blocks:
            print(f"--- {language}\n{code}", flush=True)
            command = ["bash", "-euo", "pipefail", "-c", code] if language == "sh" else [sys.executable, "-c", code]
            done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, check=False)
            if done.returncode:
                print(f"exit code {done.returncode}")
                return 1
    print(f"{len(blocks)} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
