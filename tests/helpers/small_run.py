"""A finished audit of a random model, through the command line: a run folder as a user would have it, in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bures import cli
from bures.jobs.parting import Parting
from helpers import tiny

THINGS = ("apples", "bridges", "clouds", "drums", "engines", "forests", "gardens", "harbours", "islands", "jackets")
MAX_NEW_TOKENS = 6


def pretend_refusals(patch: pytest.MonkeyPatch) -> None:
    """A random model refuses nothing: where its refusals and answers part is made up."""
    patch.setattr("bures.jobs.run.find_parting", lambda *_, **__: Parting((70, 71), (), 2))


def prompt_files(folder: Path) -> dict[str, Path]:
    """Six disjoint prompt files of innocuous text."""
    files: dict[str, Path] = {}
    for side, verb in (("harmful", "Sketch the plan of"), ("harmless", "Describe")):
        for split in ("fit", "select", "test"):
            path = folder / f"{side}_{split}.jsonl"
            lines = [{"prompt": f"{verb} {thing} for {split}.", "category": thing[0]} for thing in THINGS]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            files[f"{side}_{split}"] = path
    return files


def finished(folder: Path, *flags: str, **more: object) -> Path:
    """The run folder of an audit with every kind of row; `flags` and `more` are further options."""
    model = tiny.folder(folder / "model")
    options: dict[str, object] = {
        "corpus": "none",
        "ranks": "1,2",
        "methods": "rfa,act,pca-ot",
        "max-new-tokens": MAX_NEW_TOKENS,
        "select-tokens": 2,
        "blocks": "0-1",
        "dtype": "float32",
        "out": folder / "run",
    }
    options |= {name.replace("_", "-"): path for name, path in prompt_files(folder).items()}
    options |= more
    given = (x for name, value in options.items() for x in (f"--{name.replace('_', '-')}", value))
    arguments = ["audit", str(model), *map(str, given), *flags]
    with pytest.MonkeyPatch.context() as patch:
        pretend_refusals(patch)
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
    assert not end.value.code
    return folder / "run"
