"""What the commands share: progress bars, where tables go."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from bures.errors import plain
from bures.jobs.progress import Stopwatch


@dataclass
class Stage:
    """A stage that runs: `done` steps of `total`, when it began, and when a log was last told."""

    name: str
    total: int
    began: float
    told: float
    done: int = 0

    def said(self, now: float) -> str:
        """`  scanning blocks: 120 of 480, 60 s, about 180 s left`."""
        spent = now - self.began
        left = spent * (self.total - self.done) / self.done if 0 < self.done <= self.total else 0.0
        return (
            f"  {self.name}: {self.done} of {self.total}, {spent:.0f} s{f', about {left:.0f} s left' if left else ''}"
        )


HEARTBEAT = 30.0
"""Seconds after which a log without a terminal is told again how far a stage is."""


class Bars:
    """Rich progress bars with time left, on stderr; without a terminal a line every half a minute.

    Inside the `with` block the bars are drawn. A log is told at its end how many seconds each stage took.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.console = console
        self.task: TaskID | None = None
        self.watch = Stopwatch(clock)
        self.current: Stage | None = None

    def __enter__(self) -> Bars:
        self.bars.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.bars.stop()
        self.watch.end()
        took = self.watch.seconds
        if kind is None and took and not self.console.is_terminal:
            parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items())
            self.say(f"took {sum(took.values()):.0f} s: {parts}")

    def stage(self, name: str, total: int) -> None:
        self.watch.begin(name)
        self.current = Stage(name, total, began=self.watch.began, told=self.watch.began)
        if not self.console.is_terminal:
            self.console.print(Text(plain(f"{name} ...")), soft_wrap=True)
        if self.task is not None:
            self.bars.update(self.task, completed=self.bars.tasks[self.task].total)
        self.task = self.bars.add_task(name, total=total)

    def advance(self, n: int = 1) -> None:
        if self.task is not None:
            self.bars.advance(self.task, n)
        if self.current is None:
            return
        self.current.done += n
        if not self.console.is_terminal and self.watch.clock() - self.current.told >= HEARTBEAT:
            self.current.told = self.watch.clock()
            self.say(self.current.said(self.current.told))

    def say(self, line: str) -> None:
        self.console.print(Text(plain(line)), soft_wrap=True)

    def row(self, result: Any) -> None:
        from bures.results.formatting import share

        row = result.rows[-1]
        where = "" if row.sites == "-" else f" at {row.sites}"
        self.console.print(Text(f"  {row.label}{where}: ASR {share(row.asr.get(result.judge))} ({row.seconds:.0f} s)"))


def output(width: int = 160) -> Console:
    """Standard output; wide where it is not a terminal, so that tables in files keep their columns."""
    return Console(width=None if sys.stdout.isatty() else width)


def show(what: RenderableType, width: int = 160) -> None:
    """Prints to standard output; tables that are wider than a file's lines are not cut there."""
    output(width).print(what, crop=False)


@contextmanager
def stdout_kept() -> Generator[None]:
    """Whatever libraries and their processes print inside goes to stderr: stdout is for results."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        try:
            kept = os.dup(1)
        except OSError:  # there is no stdout
            yield
            return
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 1)
        os.dup2(2, 1)
        yield
