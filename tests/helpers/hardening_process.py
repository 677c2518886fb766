"""A hardening for tests, in a process of its own that may be killed; says every step on standard output."""

from __future__ import annotations

import json
import sys

import torch

from bures.jobs.progress import Silent
from bures.training.harden import data, job
from bures.training.harden.config import HardenConfig

options, out, threads = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.set_num_threads(threads)
data.MEASURES = ()  # pyright: ignore[reportPrivateUsage] - nothing is fetched


class Speaking(Silent):
    """Tells how far it is."""

    def say(self, line: str) -> None:
        print(line, flush=True)


job.harden(HardenConfig.make(**options), out, progress=Speaking())
