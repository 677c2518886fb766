"""Where the number of threads comes from: the option, the run that goes on, the environment, a measurement."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bures.jobs import machine
from bures.jobs.machine import settled
from bures.jobs.scan import scan
from bures.jobs.scan_config import ScanConfig
from bures.models.loading import ChatModel
from bures.models.pace import Pace, threads_kept
from bures.results.run_folder import load_result
from bures.results.schema import ScanResult
from helpers import scripted, tiny

HELD = {"threads": 3, "threads_from": "measured", "prompt_tokens": 1024}


@pytest.fixture(autouse=True)
def as_before(llama: ChatModel) -> Iterator[None]:
    """Neither threads nor batches of one test reach another."""
    with threads_kept():
        yield
    llama.room.quickest = None


@pytest.fixture
def open_machine(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Nobody says how many threads; measurements are counted, and find two threads and 512 tokens."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    asked: list[int] = []

    def found(model: Any, sequences: Any, token_budget: int) -> Pace:
        asked.append(token_budget)
        return Pace(2, 512)

    monkeypatch.setattr(machine, "measured", found)
    return asked


def of(model: ChatModel, held: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return settled(ScanConfig.make(model="m", **options), model, model.encode(tiny.PROMPTS), held or {})


def test_what_is_open_is_measured(llama: ChatModel, open_machine: list[int]) -> None:
    found = of(llama, token_budget=2048)
    assert open_machine == [2048]
    assert (found["threads"], found["threads_from"], found["prompt_tokens"]) == (2, "measured", 512)
    assert torch.get_num_threads() == 2
    assert llama.room.quickest == 512


def test_a_run_that_goes_on_has_what_it_began_with(llama: ChatModel, open_machine: list[int]) -> None:
    found = of(llama, HELD)
    assert open_machine == []
    assert {name: found[name] for name in HELD} == HELD
    assert (torch.get_num_threads(), llama.room.quickest) == (3, 1024)


def test_the_option_is_before_all(llama: ChatModel, open_machine: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    found = of(llama, HELD, threads=4)
    assert open_machine == []
    assert (found["threads"], found["threads_from"], found["prompt_tokens"]) == (4, "asked for", 4096)
    assert (torch.get_num_threads(), llama.room.quickest) == (4, None)


def test_the_environment_is_kept_to(llama: ChatModel, open_machine: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    found = of(llama)
    assert open_machine == []
    assert (found["threads"], found["threads_from"]) == (torch.get_num_threads(), "MKL_NUM_THREADS")


def test_results_say_it_and_threads_come_back(
    tmp_path: Path, open_machine: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "measured", lambda *_: Pace(1, 512))
    torch.set_num_threads(2)
    scripted.folder(tmp_path / "model")
    for side in ("harmful", "harmless"):
        lines = scripted.prompts(40, bad=side == "harmful")
        (tmp_path / f"{side}.txt").write_text("".join(f"{line}\n" for line in lines))
    options: dict[str, Any] = {
        "model": str(tmp_path / "model"),
        "harmful": str(tmp_path / "harmful.txt"),
        "harmless": str(tmp_path / "harmless.txt"),
        "methods": ("rfa",),
        "limit": 8,
    }
    result = scan(ScanConfig.make(**options), tmp_path / "run")
    assert torch.get_num_threads() == 2
    assert (result.machine["threads"], result.machine["threads_from"]) == (1, "measured")
    assert result.machine["cores"] >= 1
    assert load_result(tmp_path / "run", ScanResult).machine == result.machine
