"""The job of `bures scan`: every method at every block, and where refusal is decided, in words."""

from __future__ import annotations

from pathlib import Path

from bures.jobs.config import ScanConfig
from bures.jobs.progress import Progress, Silent
from bures.jobs.run import (
    begin,
    blocks_to_scan,
    collect_fit,
    find_refusal_tokens,
    open_model,
    open_run,
    scan_and_locate,
)
from bures.jobs.splits import load_splits
from bures.results.schema import ScanResult


def scan(config: ScanConfig, out: str | Path | None = None, *, progress: Progress | None = None) -> ScanResult:
    """Runs a scan, or goes on with the one in `out`.

    Args:
        config: the options.
        out: the run folder; default `runs/<model>-<hash of the options>`.
        progress: who is told how far it is.

    Raises:
        BuresError: an input is bad; what was finished stays in the run folder.
    """
    told = progress or Silent()
    folder, done = open_run(config, ScanResult, out)
    if done is not None:
        return done
    splits = load_splits(config)
    model = open_model(config, told)
    blocks = blocks_to_scan(config, len(model.blocks))
    result = begin(ScanResult, config, model, splits, folder)
    fit = collect_fit(config, model, splits, blocks, told)
    find_refusal_tokens(config, model, splits, result)
    scan_and_locate(config, model, fit, splits, blocks, folder, result, told, induce=True)
    result.finish()
    folder.save(result)
    return result
