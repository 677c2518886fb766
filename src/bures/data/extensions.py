"""Things that are looked up by name: those of bures, and those that installed packages add by entry point.

A package adds a method, a judge or a metric by naming an object of it in its `pyproject.toml`:

    [project.entry-points."bures.methods"]
    median-shift = "bures_plugin:MEDIAN_SHIFT"

Its name is that of the object (`MEDIAN_SHIFT.name`). Nothing is imported before somebody asks for the name, and a name
of bures itself cannot be taken. Installing a package is what trusts it: its code runs with the user's rights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from bures.errors import ConfigError

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # it becomes part of file names and of options


def offered_in(group: str) -> dict[str, EntryPoint]:
    """The entry points of installed packages in a group, by name, sorted; nothing is imported."""
    return dict(sorted({each.name: each for each in entry_points(group=group)}.items()))


class Registry(Mapping[str, T]):
    """Name -> object, the built-in ones first.

    Args:
        group: the entry point group, for example `bures.methods`.
        kind: the class or runtime-checkable protocol of the objects.
        built_in: those of bures; they win over entry points of the same name.
    """

    def __init__(self, group: str, kind: type[T], built_in: Mapping[str, T]) -> None:
        self.group = group
        self.kind = kind
        self.built_in = dict(built_in)
        self.loaded: dict[str, T] = {}

    @cached_property
    def offered(self) -> dict[str, EntryPoint]:
        """The entry points of installed packages, by name, sorted."""
        return {name: each for name, each in offered_in(self.group).items() if name not in self.built_in}

    def __getitem__(self, name: str) -> T:
        """The object of that name.

        Raises:
            KeyError: there is none.
            ConfigError: an installed package offers it, but what it offers cannot be loaded or is something else.
        """
        if name in self.built_in:
            return self.built_in[name]
        if name not in self.loaded:
            self.loaded[name] = self._load(self.offered[name])
        return self.loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self.offered

    def __iter__(self) -> Iterator[str]:
        yield from self.built_in
        yield from self.offered

    def __len__(self) -> int:
        return len(self.built_in) + len(self.offered)

    def _load(self, entry: EntryPoint) -> T:
        owner = "a package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
        what = f"{self.group} entry point {entry.name!r} of {owner}"
        if not _NAME.fullmatch(entry.name):
            raise ConfigError(f"the {what} has a bad name; expected small letters, digits and single dashes")
        try:
            found: Any = entry.load()
        except Exception as error:  # whatever the package raises while it is imported
            raise ConfigError(
                f"cannot load the {what} ({type(error).__name__}: {error}); repair or uninstall the package"
            ) from error
        if not isinstance(found, self.kind):
            raise ConfigError(f"the {what} is a {type(found).__name__}; expected a bures {self.kind.__name__}")
        name = getattr(found, "name", None)
        if name != entry.name:
            raise ConfigError(f"the {what} calls itself {name!r}; expected the entry point's own name")
        return found
