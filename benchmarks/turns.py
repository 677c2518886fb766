"""What the benchmarks share: two ways to do the same in turns, what they ran on, and the page of all that was kept."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bures.jobs.machine import cores, processor

RESULTS = Path(__file__).parent / "results"

Work = Callable[[], object]
Row = dict[str, Any]


def in_turns(ours: Work, theirs: Work, rounds: int) -> Row:
    """Medians of both by the clock and by the processor, and their ratios; both have been called before."""
    taken: list[list[tuple[float, float]]] = [[], []]
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            taken[which].append(spent((ours, theirs)[which]))
    return compared(*taken)


def spent(work: Work) -> tuple[float, float]:
    """Seconds of some work by the clock and by the processor."""
    clock, ran = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - ran


def compared(ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]) -> Row:
    """Medians of seconds by the clock and by the processor, and the ratios of these."""
    (clock, ran), (other, other_ran) = (
        [statistics.median(each) for each in zip(*t, strict=True)] for t in (ours, theirs)
    )
    return {
        "ours_s": float(f"{clock:.4g}"),
        "theirs_s": float(f"{other:.4g}"),
        "ratio": round(clock / other, 3),
        "ratio_processor": round(ran / other_ran, 3),
        "rounds": len(ours),
    }


def arguments() -> argparse.Namespace:
    """What `side_by_side.py` hands to the script of a part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    for name in ("prompts", "rounds", "trials", "tokens"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--note", default="")
    return parser.parse_args()


def keep(name: str, rows: Sequence[Row], *, versions: Sequence[str] = (), **about: Any) -> None:
    """Writes the rows of one script, and with what, when and on what they came about; neither host names nor paths.

    Args:
        name: of the file in `results/`.
        rows: each with `ours`, `theirs` and `equal` (words), and what `compared` says; or `ours`, `theirs`, `failed`.
        versions: packages whose versions count, besides bures, torch and transformers.
        about: what else a reader has to know.
    """
    known = {each: importlib.metadata.version(each) for each in ("bures", "torch", "transformers", *versions)}
    machine = {"processor": processor(), "cores": cores(), "threads": torch.get_num_threads()}
    date = datetime.now(UTC).date().isoformat()
    found = {"date": date, "machine": machine, "versions": known, **about, "rows": [*rows]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(row, flush=True)


def failed(name: str, why: str) -> None:
    """A part that did not run is a line of the page; figures that an earlier run kept stay."""
    if not (RESULTS / f"{name}.json").exists():
        keep(name, [{"ours": name, "theirs": "its peers", "failed": why}])
    print(f"{name}: {why}", flush=True)


HEAD = """# What was measured

`make bench` writes this page from `results/`. Ratios are of medians over rounds in which both sides take turns, on one
thread, by the clock and by the processor's time; below 1 bures takes less. Every pair had to give equal results before
it was timed (`equal` says in what), but where it says otherwise. Where other work ran on the machine, the processor's
ratio says more.
"""

TABLE = """
| bures | beside | ratio, clock | ratio, processor | seconds | rounds | equal |
|---|---|---|---|---|---|---|
"""


def write_page() -> None:
    """`benchmarks/README.md`, of all that lies in `results/`."""
    parts = [HEAD]
    for path in sorted(RESULTS.glob("*.json")):
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        parts.append(f"\n## {path.stem}\n")
        parts.append(TABLE + "".join(map(_line, found["rows"])))
        parts.append(f"\n{_conditions(found)}\n")
    (RESULTS.parent / "README.md").write_text("".join(parts), encoding="utf-8")


def _line(row: Row) -> str:
    if "failed" in row:
        return f"| {row['ours']} | {row['theirs']} | not run: {row['failed']} | | | | |\n"
    return (
        f"| {row['ours']} | {row['theirs']} | {row['ratio']:.3f} | {row['ratio_processor']:.3f} | "
        f"{row['ours_s']:.3g} / {row['theirs_s']:.3g} | {row['rounds']} | {row['equal']} |\n"
    )


def _conditions(found: dict[str, Any]) -> str:
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    said = [
        f"{found['date']}, {machine['processor']}, cores: {machine['cores']}, threads: {machine['threads']}",
        versions,
    ]
    said += [str(found[name]) for name in ("model", "note") if found.get(name)]
    return "; ".join(said).rstrip(".") + "."
