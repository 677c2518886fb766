"""bures beside a bare model and beside its peers, each pair in turns in one process.

    python benchmarks/side_by_side.py [MODEL] [--only collect,fit,hooks,search] [--rounds 3] [--note "..."]

Makes environments in a temporary folder, with the pinned peers and this environment's torch and transformers, so that a
ratio compares code and not versions, and runs there, on one thread. Every pair has to give equal results before it is
timed. Writes benchmarks/results/ and, from all files there, benchmarks/README.md. A peer that cannot be had, or fails,
is a line of the table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

from turns import failed, write_page

HERE = Path(__file__).parent

PEERS: Mapping[str, Sequence[str]] = {
    "collect": ("steering-vectors==0.12.2", "repeng==0.4.0", "numpy==1.26.4"),
    "fit": ("POT==0.9.7.post1",),
    "hooks": (),
    "search": (
        "heretic-llm==1.4.0",
        "bitsandbytes==0.49.1",
        "questionary==2.1.1",
        "prompt-toolkit==3.0.52",
        "wcwidth==0.2.14",
        "pydantic-settings==2.16.3",
        "py-cpuinfo==9.0.0",
        "tomli-w==1.2.0",
    ),
}
"""What each part needs beside this environment. repeng does not run with numpy 2."""


def main() -> None:
    """Runs the parts, each in its environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="organism")
    parser.add_argument("--only", default=",".join(PEERS), help="the parts to run; others keep their figures")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=8, help="of a search")
    parser.add_argument("--tokens", type=int, default=12, help="greedy tokens of an answer in a search")
    parser.add_argument("--note", default="", help="what else a reader has to know, for the page")
    given = parser.parse_args()
    unknown = {*given.only.split(",")} - {*PEERS}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; expected some of {', '.join(PEERS)}")
    words = [
        given.model,
        *(f"--{name}={getattr(given, name)}" for name in ("prompts", "rounds", "trials", "tokens", "note")),
    ]
    for part in given.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            try:
                run_in(Path(folder), part, words)
            except subprocess.CalledProcessError as error:
                failed(part, f"its environment or its run ended with exit code {error.returncode}")
    write_page()


def run_in(folder: Path, part: str, words: Sequence[str]) -> None:
    """Makes the environment of a part and runs it there.

    Raises:
        subprocess.CalledProcessError: a package cannot be had, or the part failed.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    if PEERS[part]:
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--disable-pip-version-check", *PEERS[part]], check=True)
    source = os.pathsep.join([str(HERE.parent / "src"), str(HERE)])
    own = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": source}
    subprocess.run([str(python), str(HERE / f"beside_{part}.py"), *words], env=own, check=True)


if __name__ == "__main__":
    main()
