"""What a job computes with: the processor's threads and the size of batches, measured once a run where nobody said."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bures.jobs.scan_config import ScanConfig
from bures.models.loading import ChatModel
from bures.models.pace import measured

_NAMED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables of the environment by which users fix the number of threads."""


def settled(
    config: ScanConfig, model: ChatModel, sequences: Sequence[Sequence[int]], held: Mapping[str, Any]
) -> dict[str, Any]:
    """Settles threads and batch size for the job, and describes what computes it, as results carry it.

    Asked for is before all; a run that goes on has what it began with; then comes the environment. Only what is left
    open on a CPU is measured.

    Args:
        config: the options.
        model: the model; its `room` is told the batch size.
        sequences: token ids of a few prompts of the job.
        held: the description that the results of the same run hold; nothing where it begins.
    """
    named = [name for name in _NAMED if os.environ.get(name)]
    budget = None
    if config.threads is not None:
        threads, source = config.threads, "asked for"
    elif isinstance(held.get("threads"), int):
        threads, source, budget = held["threads"], str(held.get("threads_from")), held.get("prompt_tokens")
    elif named or model.device.type != "cpu":
        threads, source = torch.get_num_threads(), named[0] if named else "not measured"
    else:
        pace = measured(model, sequences, config.token_budget)
        threads, source, budget = pace.threads, "measured", pace.token_budget
    torch.set_num_threads(threads)
    model.room.quickest = budget
    found = {"processor": processor(), "cores": cores(), "device": model.device.type}
    return {**found, "threads": threads, "threads_from": source, "prompt_tokens": budget or config.token_budget}


def cores() -> int:
    """Processor cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


def processor() -> str:
    """The processor's name, or its architecture where it has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else platform.processor() or platform.machine())[:80]
