"""What a job says of its progress where there is no terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bures.cli.console import Bars


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(bars: Bars, clock: Clock) -> None:
    """Two stages: one of ten steps of seven seconds, one of two of a second, and the first once more."""
    for name, steps, seconds in (("scanning", 10, 7.0), ("asking", 2, 1.0), ("scanning", 1, 5.0)):
        bars.stage(name, steps)
        for _ in range(steps):
            clock.now += seconds
            bars.advance()


def test_a_log_is_told_every_half_minute_and_at_the_end() -> None:
    out, clock = io.StringIO(), Clock()
    bars = Bars(Console(file=out), clock)
    with bars:
        told(bars, clock)
    assert out.getvalue().splitlines() == [
        "scanning ...",
        "  scanning: 5 of 10, 35 s, about 35 s left",
        "  scanning: 10 of 10, 70 s",
        "asking ...",
        "scanning ...",
        "took 77 s: scanning 75, asking 2",
    ]


def test_a_terminal_has_bars_and_no_lines() -> None:
    out, clock = io.StringIO(), Clock()
    bars = Bars(Console(file=out, force_terminal=True), clock)
    with bars:
        told(bars, clock)
    assert "about" not in out.getvalue()
    assert "took" not in out.getvalue()
    assert bars.watch.seconds == {"scanning": 75.0, "asking": 2.0}


def test_a_job_that_fails_says_nothing_of_time() -> None:
    out = io.StringIO()

    def failing() -> None:
        with Bars(Console(file=out)) as bars:
            bars.stage("loading [bold]x", 1)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        failing()
    assert out.getvalue() == "loading [bold]x ...\n"
