"""What a fresh interpreter holds after a statement, or prints."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "peft",
    "sklearn",
    "scipy",
    "numpy",
    "pandas",
    "pyarrow",
    "gguf",
    "typer",
    "httpx2",
    "unearth",
)


def imported_by(statement: str) -> set[str]:
    """The heavy packages that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def run(code: str) -> str:
    """What a fresh interpreter prints; whatever goes wrong there is raised here."""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
