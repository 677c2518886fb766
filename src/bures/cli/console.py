"""What the commands share: progress bars, where tables go."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, redirect_stdout
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


class Bars:
    """Rich progress bars with time left, on stderr."""

    def __init__(self, console: Console) -> None:
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

    def stage(self, name: str, total: int) -> None:
        if not self.console.is_terminal:
            self.console.print(f"{name} ...")
        if self.task is not None:
            self.bars.update(self.task, completed=self.bars.tasks[self.task].total)
        self.task = self.bars.add_task(name, total=total)

    def advance(self, n: int = 1) -> None:
        if self.task is not None:
            self.bars.advance(self.task, n)

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
