"""Processes that have everything imported when they begin: forked from a server that has done nothing else."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

_TESTS = str(Path(__file__).parents[1])
if _TESTS not in os.environ.get("PYTHONPATH", "").split(os.pathsep):  # the server of Python 3.11.2 has no other path
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_TESTS, os.environ.get("PYTHONPATH"))))
os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "COLUMNS": "100"}

context = multiprocessing.get_context("forkserver")
"""Its server starts with the first process."""

context.set_forkserver_preload(
    [
        *("bures.cli", "bures.jobs.audit", "bures.jobs.search", "bures.training.harden", "bures.report.build"),
        *("helpers.scripted", "helpers.hardening", "bures.jobs.defence.job", "peft", "optuna"),
    ]
)
