"""Who is told how far a long job is, and how long its stages take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Who is told how far the job is."""

    def stage(self, name: str, total: int) -> None:
        """A stage of `total` steps begins."""
        ...

    def advance(self, n: int = 1) -> None:
        """`n` steps are done."""
        ...

    def row(self, result: Any) -> None:
        """A row of the table is done."""
        ...

    def say(self, line: str) -> None:
        """What the user has to know now."""
        ...


class Silent:
    """Tells nobody."""

    def stage(self, name: str, total: int) -> None:
        """Nothing."""

    def advance(self, n: int = 1) -> None:
        """Nothing."""

    def row(self, result: Any) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""


@dataclass
class Stopwatch:
    """Seconds of each stage by its name, the one that runs included; stages of one name are added up.

    Attributes:
        clock: seconds, from any moment on.
        ended: seconds of the stages that are over.
        name: of the stage that runs; None where none does.
        began: when it began.
    """

    clock: Callable[[], float] = time.monotonic
    ended: dict[str, float] = field(default_factory=dict[str, float])
    name: str | None = None
    began: float = 0.0

    def begin(self, name: str) -> None:
        """A stage begins, and the one before it is over."""
        self.end()
        self.name, self.began = name, self.clock()

    def end(self) -> None:
        """The stage that runs is over."""
        self.ended, self.name = self.seconds, None

    @property
    def seconds(self) -> dict[str, float]:
        """Of each stage, up to now."""
        if self.name is None:
            return dict(self.ended)
        return {**self.ended, self.name: self.ended.get(self.name, 0.0) + self.clock() - self.began}


class Timed:
    """Tells somebody else, and looks at the clock; what earlier sessions of a run took counts too."""

    def __init__(self, told: Progress, watch: Stopwatch | None = None) -> None:
        self.told, self.watch = told, watch or Stopwatch()
        self.before: Mapping[str, float] = {}

    @property
    def seconds(self) -> dict[str, float]:
        """Of each stage, in all sessions, to a tenth of a second."""
        now = self.watch.seconds
        names = dict.fromkeys([*self.before, *now])
        return {name: round(self.before.get(name, 0.0) + now.get(name, 0.0), 1) for name in names}

    def stage(self, name: str, total: int) -> None:
        """A stage begins."""
        self.watch.begin(name)
        self.told.stage(name, total)

    def advance(self, n: int = 1) -> None:
        """`n` steps are done."""
        self.told.advance(n)

    def row(self, result: Any) -> None:
        """A row of the table is done."""
        self.told.row(result)

    def say(self, line: str) -> None:
        """What the user has to know now."""
        self.told.say(line)
