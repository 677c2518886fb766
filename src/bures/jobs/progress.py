"""Who is told how far a long job is."""

from __future__ import annotations

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
