"""The queue that several processes work on: with one of them killed in the middle of a trial."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from bures.errors import ConfigError
from bures.jobs import study as storages
from bures.jobs.study import CELL, create_study, finished, join_study, optuna_module, work

if TYPE_CHECKING:
    from optuna import Trial

CELLS = 10
opened: list[Any] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Every connection that a test opens is closed with it."""
    yield
    while opened:
        storage = opened.pop()
        storage.remove_session()
        storage.engine.dispose()


def open_storage(url: str, **options: int) -> Any:
    opened.append(storages.open_storage(url, **options))
    return opened[-1]


def url_of(kind: str, folder: Path) -> str:
    if kind == "sqlite":
        return f"sqlite:///{folder / 'queue.db'}"
    url = os.environ.get("BURES_TEST_POSTGRES")
    if not url:
        pytest.skip("no PostgreSQL: BURES_TEST_POSTGRES is not set (.ci/run starts one where it can)")
    return url


def lines(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def wait_until(is_so: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_trial_is_lost_or_finished_twice_when_a_worker_is_killed(kind: str, tmp_path: Path) -> None:
    url, name, log = url_of(kind, tmp_path), f"test-{uuid.uuid4().hex}", tmp_path / "log"
    study = create_study(open_storage(url, heartbeat=1, grace=10), name, CELLS, {"a": 1})
    script = str(Path(__file__).parents[1] / "helpers" / "worker_process.py")

    def worker(seconds: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, script, url, name, str(log), seconds])

    def has_begun(one: subprocess.Popen[bytes]) -> bool:
        return str(one.pid) in {line[2] for line in lines(log)}

    victim = worker("600")  # never comes to the end of its first trial, however slow this machine is
    wait_until(lambda: has_begun(victim))
    others = [worker("0.2") for _ in range(2)]
    wait_until(lambda: any(map(has_begun, others)))
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert [other.wait(timeout=90) for other in others] == [0, 0]

    done = finished(study)
    assert sorted(trial.user_attrs[CELL] for trial in done) == list(range(CELLS))
    ended = Counter(line[1] for line in lines(log) if line[0] == "end")
    assert ended == {str(cell): 1 for cell in range(CELLS)}
    begun = Counter(line[1] for line in lines(log) if line[0] == "begin")
    assert sorted(begun.values()) == [1] * (CELLS - 1) + [2]  # the abandoned one was begun again
    failed = study.get_trials(states=(optuna_module().trial.TrialState.FAIL,))
    assert [begun[str(trial.user_attrs[CELL])] for trial in failed] == [2]


def test_trials_are_finished_once_and_an_interrupted_one_is_queued_again(tmp_path: Path) -> None:
    storage = open_storage(url_of("sqlite", tmp_path))
    study = create_study(storage, "s", 4, {"a": 1})
    seen: list[int] = []

    def objective(trial: Trial) -> tuple[float, float]:
        cell = trial.user_attrs[CELL]
        seen.append(cell)
        if seen == [0, 1]:
            raise KeyboardInterrupt
        return 1.0, 2.0

    with pytest.raises(KeyboardInterrupt):
        work(storage, study, objective)
    told: list[int] = []
    again = create_study(storage, "s", 4, {"a": 1})
    work(storage, again, objective, advance=told.append)
    assert seen == [0, 1, 2, 3, 1]
    assert sorted(trial.user_attrs[CELL] for trial in finished(again)) == [0, 1, 2, 3]
    assert sum(told) == 4
    more = create_study(storage, "s", 6, {"a": 1})  # a study may be made longer
    work(storage, more, objective)
    assert len(finished(more)) == 6


def test_a_trial_that_was_not_queued_is_not_run(tmp_path: Path) -> None:
    storage = open_storage(url_of("sqlite", tmp_path))
    study = create_study(storage, "s", 1, {})
    study.enqueue_trial({})  # what a worker makes when another one was quicker to take the last
    seen: list[int] = []

    def objective(trial: Trial) -> tuple[float, float]:
        seen.append(trial.user_attrs[CELL])
        return 0.0, 0.0

    work(storage, study, objective)
    assert seen == [0]
    assert len(finished(study)) == 1


@pytest.mark.filterwarnings("ignore:Heartbeat of storage:UserWarning")
def test_a_trial_whose_worker_died_before_its_first_heartbeat_is_queued_again(tmp_path: Path) -> None:
    storage = open_storage(url_of("sqlite", tmp_path), heartbeat=1, grace=1)
    study = create_study(storage, "s", 2, {})
    study.ask()  # taken, and nothing more is heard
    seen: list[int] = []

    def objective(trial: Trial) -> tuple[float, float]:
        seen.append(trial.user_attrs[CELL])
        return 0.0, 0.0

    work(storage, study, objective, poll=0.2)
    assert seen == [1, 0]
    assert len(finished(study)) == 2


def test_other_options_another_name_and_a_bad_url_are_one_line(tmp_path: Path) -> None:
    storage = open_storage(url_of("sqlite", tmp_path))
    create_study(storage, "s", 2, {"config": "x"})
    with pytest.raises(ConfigError, match="with other options"):
        create_study(storage, "s", 2, {"config": "y"})
    with pytest.raises(ConfigError, match="holds no search 't'; it holds 's'"):
        join_study(storage, "t")
    with pytest.raises(ConfigError, match="cannot open the storage sqlite:///"):
        open_storage(f"sqlite:///{tmp_path / 'absent' / 'queue.db'}")
    with pytest.raises(ConfigError) as refused:
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:9/none")
    assert "secret" not in str(refused.value)
    with pytest.raises(ConfigError, match="cannot open the storage"):
        open_storage("no url")


def test_without_optuna_the_pip_line_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'bures\[search\]'"):
        open_storage("sqlite://")


def test_a_missing_driver_is_one_line_without_the_password() -> None:
    with pytest.raises(ConfigError) as caught:
        open_storage("postgresql+pg8000://me:secret@localhost/queue")
    told = str(caught.value)
    assert told.startswith(
        "the storage postgresql+pg8000://localhost/queue (PostgreSQL is postgresql+psycopg://...) needs"
    )
    assert told.endswith("; pip install 'bures[postgres]'")
    assert "secret" not in told


def test_two_workers_that_look_at_the_same_moment_take_one_trial_once(tmp_path: Path) -> None:
    """SQLite locks nothing while it is read, unless it is told to: both saw the trial wait, and both ran it."""
    url = url_of("sqlite", tmp_path)
    study = create_study(open_storage(url), "s", 1, {})
    trial = study.get_trials()[0]
    both, taken = threading.Barrier(2), []

    def slow(*given: Any) -> None:
        if given[2].lstrip().upper().startswith("SELECT"):
            time.sleep(0.1)

    def take(storage: Any) -> None:
        both.wait()
        taken.append(storage.set_trial_state_values(trial._trial_id, state=optuna_module().trial.TrialState.RUNNING))
        storage.remove_session()

    workers = [threading.Thread(target=take, args=(open_storage(url),)) for _ in range(2)]
    for storage in opened[1:]:
        event.listen(storage.engine, "after_cursor_execute", slow)
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert sorted(taken) == [False, True]


def test_a_worker_whose_trial_was_taken_over_goes_on_with_the_next(tmp_path: Path) -> None:
    storage = open_storage(url_of("sqlite", tmp_path))
    study = create_study(storage, "s", 3, {})
    seen: list[int] = []

    def objective(trial: Trial) -> tuple[float, float]:
        seen.append(trial.user_attrs[CELL])
        if len(seen) == 1:  # it slept, and another worker took it for dead
            storage.set_trial_state_values(trial._trial_id, state=optuna_module().trial.TrialState.FAIL)
        return 0.0, 0.0

    work(storage, study, objective)
    assert seen == [0, 1, 2]
    assert [trial.user_attrs[CELL] for trial in finished(study)] == [1, 2]
