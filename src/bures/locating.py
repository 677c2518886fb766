"""The job of `bures scan`: every method at every block, and where refusal is decided, in words."""

from __future__ import annotations

from pathlib import Path

from bures.config import ScanConfig
from bures.progress import Progress, Silent
from bures.results import ScanResult
from bures.run_folder import RunFolder
from bures.scanning import Scanner
from bures.splits import load_splits
from bures.stages import (
    begin,
    blocks_to_scan,
    collect_fit,
    default_out,
    find_refusal_tokens,
    locate,
    open_model,
    scan_all,
)


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
    folder = RunFolder.open(Path(out) if out is not None else default_out(config), config.model_dump(mode="json"))
    held = folder.load(ScanResult)
    if held is not None and held.status == "complete":
        return held
    splits = load_splits(config)
    model = open_model(config, told)
    blocks = blocks_to_scan(config, len(model.blocks))
    result = begin(ScanResult, config, model, splits, folder)
    fit = collect_fit(config, model, splits, blocks, told)
    find_refusal_tokens(config, model, splits, result)
    harmful, harmless = splits["harmful_select"], splits["harmless_select"]
    scanner = Scanner(
        model, fit, harmful, harmless, result.refusal_tokens, induce=True, token_budget=config.token_budget
    )
    scores = scan_all(config, scanner, blocks, folder, result, told)
    result.localisation = locate(config, scanner, splits, scores, told)
    result.status = "complete"
    folder.save(result)
    return result
