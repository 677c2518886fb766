"""Kills a job with SIGKILL at random moments, continues it, and compares what is left with an unbroken run.

    python tests/chaos/kills.py --kills 50 --seed 0

Jobs are commands on a hand-made model, run in processes that are forked with everything imported, so that what is
killed is the work and not the loading of libraries. The moments are uniform over the time of the unbroken run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.processes import context
from helpers import hardening, scripted, tiny

JOBS = ("audit", "search", "harden", "judge", "defend")

DEFENDED = ("audit", "other", "search")
"""What a defence is made of."""

TIMES = ("seconds", "finished", "started")
"""Fields of results that tell when or how fast, which no two runs have in common."""


def prepare(folder: Path) -> None:
    """Writes the inputs, and waits until the processes have their libraries."""
    start(["--help"], folder / "help.log").join()
    write_inputs(folder)
    write_training(folder)


def write_inputs(folder: Path) -> None:
    """The model, another of its kind, and the prompts."""
    scripted.folder(folder / "model")
    scripted.folder(folder / "other", seed=1)
    for side in ("harmful", "harmless"):
        for i, split in enumerate(("fit", "select", "test")):
            lines = scripted.prompts(8, bad=side == "harmful", seed=10 + i)
            (folder / f"{side}_{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_training(folder: Path) -> None:
    """A model that can be trained, its prompts and the options."""
    model = hardening.model()
    model.hf.save_pretrained(folder / "trainable")
    model.tokenizer.save_pretrained(folder / "trainable")
    options = hardening.config().model_dump(mode="json", exclude_unset=True) | {
        "model": str(folder / "trainable"),
        "harmful": [str(hardening.prompt_file(folder / "harmful.txt", hardening.ASKED))],
        "harmless": [str(hardening.prompt_file(folder / "harmless.txt", tiny.PROMPTS))],
        "attack_share": 0.5,
        "checkpoint_every": 2,
    }
    (folder / "harden.json").write_text(json.dumps(options), encoding="utf-8")


def command(job: str, folder: Path, run: Path) -> list[str]:
    """The command line of a job.

    Args:
        job: audit (or other, that of the other model), search, harden, defend (of those audits and that search, which
            are finished) or judge (of a finished audit, which `run` holds).
        folder: with the model and the prompts.
        run: the run folder.
    """
    if job == "judge":
        return ["judge", "run", str(run), "--judge", "gcg", "--judge", "arditi"]
    if job == "harden":
        return ["harden", str(folder / "trainable"), "--config", str(folder / "harden.json"), "--out", str(run)]
    if job == "defend":
        one, other, search = (folder / f"whole-{name}" for name in DEFENDED)
        further = ["--search", f"one={search}", "--harmless-test", str(folder / "harmless_select.txt")]
        audits = [f"one={one}", f"other={other}", "--before", str(other)]
        return [job, *audits, *further, "--n-perplexity", "4", "--out", str(run)]
    wanted = ("fit", "select", *(["test"] if job != "search" else []))
    sides = [(side, split) for side in ("harmful", "harmless") for split in wanted]
    splits = [x for side, split in sides for x in (f"--{side}-{split}", str(folder / f"{side}_{split}.txt"))]
    asked, model = ("search" if job == "search" else "audit"), ("other" if job == "other" else "model")
    of_job = {
        "audit": ["--methods", "rfa,mean-act,pca-ot", "--corpus", "none", "--max-new-tokens", "8", "--n-select", "8"],
        "search": ["--methods", "rfa,mean-act", "--trials", "12", "--short-tokens", "4", "--long-tokens", "8"],
    }[asked]
    as_published = ["--dtype", "float32", "--threads", "1"]
    return [asked, str(folder / model), "--out", str(run), "--ranks", "1", *as_published, *splits, *of_job]


def start(arguments: Sequence[str], log: Path) -> Any:
    """A process that runs the command; its exit code is the command's."""
    process = context.Process(target=_run, args=(list(arguments), str(log)))
    process.start()
    return process


def _run(arguments: list[str], log: str) -> None:
    from bures import cli
    from bures.training.harden import data

    data.MEASURES = ()  # sets that would be fetched to be kept apart
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(handle, stream)
    cli.main(arguments)


def finish(arguments: Sequence[str], log: Path) -> float:
    """Runs a command to its end; how many seconds it took.

    Raises:
        RuntimeError: it did not end well.
    """
    began = time.monotonic()
    process = start(arguments, log)
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{' '.join(arguments[:2])} ended with {process.exitcode}: {log.read_text()[-2000:]}")
    return time.monotonic() - began


def broken(arguments: Sequence[str], log: Path, moments: Sequence[float]) -> int:
    """Runs a command, killed after each of the moments (in seconds) and begun again; how many kills found it alive."""
    killed = 0
    for moment in moments:
        process = start(arguments, log)
        process.join(moment)
        killed += process.is_alive()
        process.kill()
        process.join()
    finish(arguments, log)
    return killed


def state(run: Path) -> dict[str, Any]:
    """What a run folder holds, without times and without what is nobody's business."""
    found: dict[str, Any] = {}
    for file in sorted(run.rglob("*")):
        name = str(file.relative_to(run))
        if not file.is_file() or name in (".lock", "search.db") or file.suffix == ".html":  # pages show times
            continue
        if file.name == "completions.jsonl":
            found[name] = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        else:
            is_json = file.suffix == ".json"
            found[name] = _timeless(json.loads(file.read_bytes())) if is_json else file.read_bytes()
    return found


def spelled(run: Path) -> dict[str, bytes]:
    """The bytes of the same files, with nothing in place of times."""
    times = re.compile(rb'("(?:%s)": )("[^"]*"|\{[^}]*\}|[0-9.e+-]+)' % "|".join(TIMES).encode())
    return {name: times.sub(rb"\1", (run / name).read_bytes()) for name in state(run)}


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _timeless(held) for key, held in value.items() if key not in TIMES}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the files that are not the same, and where results differ, of their fields."""
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    fields = [
        f"results.json: {key}"
        for key in sorted({*one.get("results.json", {}), *other.get("results.json", {})})
        if one.get("results.json", {}).get(key) != other.get("results.json", {}).get(key)
    ]
    return [*(name for name in names if name != "results.json"), *fields]


def whole_of(job: str, folder: Path) -> Path:
    """The folder of an unbroken run, which is made where it is missing, after those that it is made of."""
    whole, took, log = folder / f"whole-{job}", folder / f"{job}.seconds", folder / f"{job}.log"
    for source in {"judge": ("audit",), "defend": DEFENDED}.get(job, ()):
        whole_of(source, folder)
    if not took.exists():
        if job == "judge":
            shutil.copytree(folder / "whole-audit", whole)
        took.write_text(str(finish(command(job, folder, whole), log)))
    return whole


def trial(job: str, folder: Path, rng: random.Random, kills: int) -> tuple[int, list[str]]:
    """One run broken by some kills, beside an unbroken one; how many found it alive, and what differs at the end."""
    whole = whole_of(job, folder)
    run = folder / "broken" if job == "judge" else whole
    aside = folder / "aside"
    if job == "judge":
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(folder / "whole-audit", run)
    else:  # the command stands in the results: the folder has to have the same name
        whole = whole.rename(aside)
    try:
        moments = [rng.uniform(0.0, float((folder / f"{job}.seconds").read_text())) for _ in range(kills)]
        killed = broken(command(job, folder, run), folder / f"{job}.log", moments)
        return killed, differences(state(whole), state(run))
    finally:
        if whole == aside:
            shutil.rmtree(run, ignore_errors=True)
            aside.rename(run)


def main() -> None:
    """Kills until as many kills as asked for have found a job alive."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", default=",".join(JOBS))
    given = parser.parse_args()
    rng, alive, runs, unequal = random.Random(given.seed), 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        prepare(Path(name))
        jobs = given.jobs.split(",")
        while alive < given.kills:
            job = jobs[runs % len(jobs)]
            killed, wrong = trial(job, Path(name), rng, rng.randint(1, 3))
            runs, alive, unequal = runs + 1, alive + killed, unequal + bool(wrong)
            print(
                f"{job}: killed {killed} times, {'equal' if not wrong else 'DIFFERENT: ' + ', '.join(wrong)}",
                flush=True,
            )
    print(f"{alive} kills in {runs} runs; {runs - unequal} ended with the results of an unbroken run")
    sys.exit(bool(unequal))


if __name__ == "__main__":
    main()
