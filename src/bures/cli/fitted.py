"""Tables and sentences that fit where they are shown: a narrow terminal, a file, an encoding that lacks a character."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bures.errors import plain

_ROOM = 1_000
_NARROW, _NARROWEST = 12, 6
"""Characters to which a column that wraps is squeezed before another one is left out, and when none is left to be."""

_STAND_INS = {
    "±": "+/-",
    "×": "x",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "λ": "lambda",
    **dict(zip("▁▂▃▄▅▆▇█", "12345678", strict=True)),
}
"""What is written for characters of our own that an encoding lacks; all others become escapes."""


def spelled(text: str, encoding: str) -> str:
    """Text that is safe to print, in the characters that an encoding has."""
    safe = plain(text)
    try:
        safe.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_one(char, encoding) for char in safe)
    except LookupError:  # an encoding that Python does not know
        return safe
    return safe


def _one(char: str, encoding: str) -> str:
    try:
        char.encode(encoding)
    except UnicodeEncodeError:
        return _STAND_INS.get(char) or char.encode("ascii", "backslashreplace").decode()
    return char


@dataclass(frozen=True)
class Words:
    """Lines of plain text."""

    lines: tuple[str, ...]
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        """The lines, each wrapped to the width."""
        for line in self.lines:
            yield Text(spelled(line, options.encoding), style=self.style)


def words(*lines: str, style: str = "") -> Words:
    """Lines of plain text; names in them are text, no markup."""
    return Words(lines, style)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        spare: 0 where the table means nothing without it; of the others the highest is left out first.
        left: whether its cells begin at the left.
        wraps: whether its cells may take several lines.
    """

    name: str
    spare: int = 0
    left: bool = False
    wraps: bool = False


class Fitted:
    """A table that leaves columns out where a terminal is too narrow for them, and says which.

    In files and pipes it has them all, as wide as they are.
    """

    def __init__(self, title: str, columns: Iterable[Column], elsewhere: str = "the page and --json") -> None:
        self.title, self.columns, self.elsewhere = title, list(columns), elsewhere
        self.rows: list[tuple[tuple[str, ...], str | None]] = []

    def add(self, cells: Iterable[str], style: str | None = None) -> None:
        """Adds a row, with one cell a column."""
        self.rows.append((tuple(cells), style))
        if len(self.rows[-1][0]) != len(self.columns):
            raise ValueError(f"{len(self.rows[-1][0])} cells for {len(self.columns)} columns")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        """The table with the columns that there is room for."""
        everything = self._table(range(len(self.columns)), options.encoding, _ROOM)
        natural = Measurement.get(console, options.update(width=10_000), everything).maximum
        if natural <= options.max_width:
            yield everything
        elif not console.is_terminal:
            yield from console.render(everything, options.update(width=natural))
        else:
            yield from self._narrow(console, options)

    def _narrow(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        shown = list(range(len(self.columns)))
        left_out: list[int] = []
        while True:
            table = self._table(shown, options.encoding, _NARROW)
            needed = Measurement.get(console, options.update(width=10_000), table).minimum
            spare = [i for i in shown if self.columns[i].spare]
            if needed <= options.max_width:
                break
            if not spare:
                table = self._table(shown, options.encoding, _NARROWEST)
                break
            out = max(spare, key=lambda i: self.columns[i].spare)
            shown.remove(out)
            left_out.append(out)
        yield table
        if left_out:
            names = ", ".join(self.columns[i].name for i in sorted(left_out))
            yield words(f"Left out for want of width ({self.elsewhere} have them): {names}.", style="dim")

    def _table(self, shown: Sequence[int], encoding: str, squeezed: int) -> Table:
        table = Table(title=Text(spelled(self.title, encoding)) if self.title else None, title_justify="left")
        for i in shown:
            column = self.columns[i]
            widest = max(cell_len(spelled(cell, encoding)) for cell in (column.name, *(row[i] for row, _ in self.rows)))
            narrowest = min(squeezed, widest) if column.wraps else widest
            table.add_column(
                Text(spelled(column.name, encoding)),
                justify="left" if column.left else "right",
                no_wrap=not column.wraps,
                overflow="fold",
                min_width=narrowest,
            )
        for cells, style in self.rows:
            table.add_row(*(Text(spelled(cells[i], encoding)) for i in shown), style=style)
        return table


def columns(
    *names: str, left: Sequence[str] = (), wraps: Sequence[str] = (), spare: Sequence[str] = ()
) -> list[Column]:
    """Columns by their names.

    Args:
        names: in order.
        left: those whose cells begin at the left.
        wraps: those whose cells may take several lines.
        spare: those that may be left out, the first one first.
    """
    rank = {name: len(spare) - i for i, name in enumerate(spare)}
    return [Column(name, spare=rank.get(name, 0), left=name in left, wraps=name in wraps) for name in names]
