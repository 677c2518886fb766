"""How much of the model before its refusal training comes back under each row of an audit of the organism.

    bures audit organism --out runs/before
    python benchmarks/ground_truth.py runs/before [--n 64] [--max-new-tokens 32] [--before smollm2-135m-instruct]

Prompts are the first of the audit's harmful test prompts. One line a row: token KL(before || intervened) along the
greedy answers of the model before (mean with a 95 % interval over prompts, 95th percentile over tokens, mean at the
first token), and the share of the KL of `none` that is taken back.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from bures.cli.console import Bars
from bures.jobs.beginning import open_model
from bures.jobs.ground_truth import Before, taken_back
from bures.jobs.saved_interventions import load_config, load_intervention
from bures.jobs.splits import load_splits
from bures.models.loading import BASE_OF_ORGANISM, load_model
from bures.results.names import NONE
from bures.results.run_folder import load_result
from bures.results.stats import Measurement


def told(figure: Measurement, digits: int = 3) -> str:
    """A figure and its interval."""
    low, high = figure.interval or (figure.value, figure.value)
    return f"{figure.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> None:
    """Reads both models along the same answers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--before", default=BASE_OF_ORGANISM)
    given = parser.parse_args()
    result, config = load_result(given.run), load_config(given.run)
    prompts = list(load_splits(config).tested.harmful)[: given.n]
    rows = [row.key for row in result.rows if row.error is None and row.method != NONE]
    interventions = {row: load_intervention(given.run, row) for row in rows}
    bars = Bars(Console(stderr=True))
    with bars.bars:
        before = Before.of(load_model(given.before), prompts, max_new_tokens=given.max_new_tokens, system=config.system)
        found = taken_back(before, open_model(config, bars), interventions, progress=bars)
    print(f"{len(before.heads)} prompts, {found[0].tokens} tokens; KL in nats")
    for each in found:
        back = "" if each.share is None else f"  taken back {told(each.share)}"
        print(f"{each.name:14} mean {told(each.kl)}  95th {each.kl_95:.3f}  first {told(each.first)}{back}")


if __name__ == "__main__":
    main()
