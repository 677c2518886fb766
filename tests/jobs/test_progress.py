"""How long the stages of a job take, over all sessions of its run."""

from __future__ import annotations

from typing import Any

from bures.jobs.progress import Progress, Silent, Stopwatch, Timed


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class Listening(Silent):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def stage(self, name: str, total: int) -> None:
        self.heard.append((name, total))

    def advance(self, n: int = 1) -> None:
        self.heard.append(n)

    def row(self, result: Any) -> None:
        self.heard.append(result)

    def say(self, line: str) -> None:
        self.heard.append(line)


def test_stages_of_a_name_are_added_up_and_the_running_one_counts() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    assert watch.seconds == {}
    watch.begin("a")
    clock.now += 2
    assert watch.seconds == {"a": 2.0}
    watch.begin("b")
    clock.now += 3
    watch.begin("a")
    clock.now += 4
    assert watch.seconds == {"a": 6.0, "b": 3.0}
    watch.end()
    clock.now += 5
    assert watch.seconds == {"a": 6.0, "b": 3.0}


def test_what_earlier_sessions_took_counts_and_all_is_told_on() -> None:
    clock, heard = Clock(), Listening()
    timed = Timed(heard, Stopwatch(clock))
    timed.before = {"a": 1.0, "c": 7.0}
    timed.stage("a", 4)
    clock.now += 2.04
    timed.advance(3)
    timed.row("row")
    timed.say("said")
    assert isinstance(timed, Progress)
    assert timed.seconds == {"a": 3.0, "c": 7.0}
    assert heard.heard == [("a", 4), 3, "row", "said"]
