"""What hardened models withstand, side by side: many attacks on the same prompts, the worst of them, their union.

    bures audit organism --out runs/before
    bures harden organism --out hardened; bures audit organism --adapter hardened --out runs/ours
    bures harden organism --out control --setting control; bures audit organism --adapter control --out runs/control
    python benchmarks/defence.py ours=runs/ours control=runs/control before=runs/before --before runs/before
        [--json FILE]

Every run is an audit, with the same options but for the adapter. The first is held against each of the others by
McNemar's exact test on the unions. Maps of `--before` are transferred to all models but itself.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from bures.cli.console import Bars
from bures.jobs.defence import Withstood, against, withstood
from bures.results.formatting import p_equals, share


def told(model: Withstood) -> None:
    """Prints one model's attacks."""
    print(f"\n{model.name} (judge {model.judge})")
    for each in model.attacks:
        budget = " beyond the perplexity budget" if each.within_budget is False else ""
        print(f"  {each.kind:12} {each.name:32} {share(each.asr)}{budget}")
    print(f"  worst: {model.worst.name}, {share(model.worst.asr)}; any of them: {share(model.union)}")


def main() -> None:
    """Attacks every model and compares them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    bars, models = Bars(Console(stderr=True)), list[Withstood]()
    with bars.bars:
        for name, _, run in (each.partition("=") for each in given.runs):
            is_before = given.before is not None and Path(run).resolve() == given.before.resolve()
            models.append(withstood(run, None if is_before else given.before, bars, name=name))
    for model in models:
        told(model)
    for other in models[1:]:
        found = against(models[0], other)
        print(
            f"\nbroken only in {models[0].name}: {found.only_first}; only in {other.name}: {found.only_second} "
            f"({p_equals(found.p)})"
        )
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(model) for model in models], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
