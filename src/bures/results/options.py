"""The options that results carry, read as plain values; what they mean stands in `bures.jobs.config`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from bures.errors import RunError

Value = TypeVar("Value", str, int, float, bool)


@dataclass(frozen=True)
class Options:
    """The options of a run.

    Attributes:
        folder: of the run, for messages.
        held: the options as its results hold them, by name.
    """

    folder: str
    held: Mapping[str, Any]

    def value(self, name: str, kind: type[Value]) -> Value:
        """The option's value.

        Raises:
            RunError: there is none, or it is of another type.
        """
        found = self.value_or_none(name, kind)
        if found is None:
            raise self._damaged(name, kind, "nothing")
        return found

    def value_or_none(self, name: str, kind: type[Value]) -> Value | None:
        """The value of an option that may be left open: None where it was.

        Raises:
            RunError: the results do not hold the option, or it is of another type.
        """
        if name not in self.held:
            raise self._damaged(name, kind, "nothing")
        found = self.held[name]
        if found is None:
            return None
        if kind is float and type(found) is int:
            return kind(found)
        if type(found) is not kind:
            raise self._damaged(name, kind, type(found).__name__)
        return found

    def _damaged(self, name: str, kind: type, found: str) -> RunError:
        return RunError(
            f"the results in {self.folder} hold {found} for the option {name!r}, expected {kind.__name__}; run the job "
            "again"
        )
