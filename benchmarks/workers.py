"""How much faster two workers finish a queue of trials of a fixed cost than one.

    python benchmarks/workers.py [STORAGE_URL] [--trials 24] [--cost 0.5]

Workers are processes that only sleep; time runs from the first trial's start to the last one's end, as the storage has
it, so that starting Python does not count. Default storage: SQLite in a temporary folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bures.jobs.study import create_study, finished, open_storage

WORKER = """
import sys, time
from bures.jobs.study import join_study, open_storage, work
def objective(trial):
    time.sleep(float(sys.argv[3]))
    return 0.0, 0.0
storage = open_storage(sys.argv[1])
work(storage, join_study(storage, sys.argv[2]), objective, poll=0.1)
"""


def main() -> None:
    """Prints the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("storage", nargs="?")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--cost", type=float, default=0.5, help="seconds per trial")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.storage or f"sqlite:///{Path(folder) / 'queue.db'}"
        seconds = {n: _run(url, n, given.trials, given.cost) for n in (1, 2)}
    print(
        f"{given.trials} trials of {given.cost} s: one worker {seconds[1]:.1f} s, two {seconds[2]:.1f} s, "
        f"{seconds[1] / seconds[2]:.2f} times faster"
    )


def _run(url: str, workers: int, trials: int, cost: float) -> float:
    name = f"benchmark-{workers}"
    study = create_study(open_storage(url), name, trials, {})
    command = [sys.executable, "-c", WORKER, url, name, str(cost)]
    running = [subprocess.Popen(command) for _ in range(workers)]
    for process in running:
        if process.wait():
            sys.exit("a worker failed")
    done = finished(study)
    if len(done) != trials:
        sys.exit(f"{len(done)} of {trials} trials finished")
    ends = [t.datetime_complete for t in done if t.datetime_complete is not None]
    return (max(ends) - min(t.datetime_start for t in done if t.datetime_start is not None)).total_seconds()


if __name__ == "__main__":
    main()
