"""What every simulation here begins with: its parts, how many runs, and the seed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping

import numpy as np

Part = Callable[[int, np.random.Generator], Iterable[str]]
"""Simulates so many runs; one line a setting."""


def show(about: str | None, parts: Mapping[str, Part], *, runs: int, seed: int = 20261125) -> None:
    """Prints the lines of the parts that the command line asks for, all of them by default.

    Args:
        about: what `--help` says.
        parts: by name; each begins with the seed.
        runs: of every setting, unless told otherwise.
        seed: likewise.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--only", choices=list(parts))
    parser.add_argument("--seed", type=int, default=seed)
    given = parser.parse_args()
    for name, part in parts.items():
        if given.only in (None, name):
            for line in part(given.runs, np.random.default_rng(given.seed)):
                print(f"{name}: {line}", flush=True)
