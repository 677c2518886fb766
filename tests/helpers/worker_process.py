"""A worker for tests: writes down when it begins and ends a cell, and sleeps in between."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from bures.jobs.study import CELL, join_study, open_storage, work

url, name, log, cost = sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])


def note(what: str, cell: int) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{what} {cell} {os.getpid()}\n")


def objective(trial: Any) -> tuple[float, float]:
    cell = trial.user_attrs[CELL]
    note("begin", cell)
    time.sleep(cost)
    note("end", cell)
    return float(cell), 0.0


storage = open_storage(url, heartbeat=1, grace=10)  # a machine that is busy with more loses seconds
work(storage, join_study(storage, name), objective, poll=0.2)
