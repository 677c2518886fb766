"""Killed at a few random moments and begun again, a job ends as if nobody had killed it; see `kills.py` for many."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from chaos import kills

ONE_LINE = "bures: another process writes the run folder"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs, and what unbroken runs made of them."""
    made = tmp_path_factory.mktemp("kills")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    kills.prepare(made)
    return made


@pytest.mark.parametrize("job", kills.JOBS)
def test_killed_jobs_end_as_unbroken_ones(job: str, folder: Path) -> None:
    _, wrong = kills.trial(job, folder, random.Random(f"7 {job}"), 2)
    assert wrong == []


def test_published_figures_are_the_same_bytes_on_every_run(folder: Path) -> None:
    """In float32 with one thread: run again, and once more killed in between; the folder has one name."""
    whole, log = kills.whole_of("audit", folder), folder / "audit.log"
    first, arguments = kills.spelled(whole), kills.command("audit", folder, whole)
    assert {"results.json", "config.json", "completions.jsonl", "maps/rfa-1.json"} < {*first}
    assert b'"seconds": ,' in first["results.json"]
    for moments in ([], [0.4 * float((folder / "audit.seconds").read_text())]):
        shutil.rmtree(whole)
        kills.broken(arguments, log, moments)
        again = kills.spelled(whole)
        assert [name for name in {*first, *again} if first.get(name) != again.get(name)] == []


def begun_and_halted(folder: Path, run: Path) -> Any:
    """An audit that is in the middle of its work, and stands still there."""
    process = kills.start(kills.command("audit", folder, run), folder / "first.log")
    deadline = time.monotonic() + 60
    while not (run / "results.json").exists():
        assert time.monotonic() < deadline
        assert process.is_alive(), (folder / "first.log").read_text()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGSTOP)
    return process


def test_the_second_process_on_a_folder_gets_one_line_and_the_first_ends_well(folder: Path) -> None:
    run = folder / "twice"
    first = begun_and_halted(folder, run)
    for i, arguments in enumerate([kills.command("audit", folder, run)] * 2):
        second = kills.start(arguments, folder / f"second-{i}.log")
        second.join()
        assert second.exitcode == 2
        said = (folder / f"second-{i}.log").read_text().splitlines()
        assert len(said) == 1
        assert said[0].startswith(ONE_LINE)
    os.kill(first.pid, signal.SIGCONT)
    first.join()
    assert first.exitcode == 0
    lines = kills.state(run)["completions.jsonl"]
    assert len(lines) == len({(line["row"], line["set"], line["hash"]) for line in lines})


def test_a_dead_process_holds_no_folder_and_leaves_nothing_behind(folder: Path) -> None:
    run = folder / "dead"
    first = begun_and_halted(folder, run)
    first.kill()
    first.join()
    (run / ".results.json.1-0.part").write_text("{")
    (run / "maps" / ".rfa-1-block0.safetensors.1-0.part").write_text("")
    kills.finish(kills.command("audit", folder, run), folder / "first.log")
    assert [path.name for path in run.rglob(".*")] == [".lock"]
