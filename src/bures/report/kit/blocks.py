"""What a page is made of: sections of blocks; a block is a paragraph (a plain string), a table, a figure and so on.

A figure is a Vega-Lite specification. Two conventions tie it to the page's controls, which are native buttons:

- a `Legend` sets the variable parameter named by `Legend.param` to the list of shown values (`charts.shown`);
- a `Choice` sets its parameter to the chosen value (`charts.chosen`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Spec = dict[str, Any]
_NUMBER = re.compile(r"[<>≤≥=+−*-]{0,2} ?\d[^A-Za-z]*[A-Za-z%!]{0,2}$")
Tone = Literal["", "muted", "bad", "good", "code"]


@dataclass(frozen=True)
class Cell:
    """A table's cell, where a plain string does not do.

    Attributes:
        text: what is shown.
        sort: by what the column is sorted; None: by the text.
        tone: how it is coloured, where the text says the same; `code` for hashes and the like.
    """

    text: str
    sort: float | None = None
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """A table; columns of numbers are set flush right, and readers can sort by any column."""

    header: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    caption: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"Every row needs {len(self.header)} cells, as the header has.")

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Whether each column holds numbers."""
        return tuple(_is_numeric([row[i] for row in self.rows]) for i in range(len(self.header)))


@dataclass(frozen=True)
class Key:
    """One entry of a legend.

    Attributes:
        value: what the series is called in the data.
        label: what the reader sees.
        colour: a CSS colour, one of `charts`.
        shape: a Vega symbol; "" for a line, "area" for a patch.
        dash: of the line; empty for a solid one.
        hollow: whether the symbol is not filled.
    """

    value: str
    label: str
    colour: str
    shape: str = "circle"
    dash: tuple[int, ...] = ()
    hollow: bool = False


@dataclass(frozen=True)
class Legend:
    """Buttons that show and hide series: they set a parameter to the list of the values that are shown."""

    param: str
    keys: tuple[Key, ...]
    label: str = "Shown"


@dataclass(frozen=True)
class Choice:
    """Buttons of which one is pressed: they set a parameter to its value. `options` are (value, label)."""

    param: str
    label: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Figure:
    """A chart.

    Attributes:
        id: unique on the page; letters, digits and dashes.
        title: a heading.
        spec: Vega-Lite, without `config` (the page's own is used); colours are those of `charts`.
        text_alternative: what a reader who cannot see it would be told.
        table: the data behind it, folded away below it.
        note: how to read it; below it.
        legend: which series are shown.
        choices: what else can be chosen.
        zoom: whether the first layer holds `charts.ZOOM`, so that readers get buttons for it.
    """

    id: str
    title: str
    spec: Spec
    text_alternative: str
    table: Table | None = None
    note: str = ""
    legend: Legend | None = None
    choices: tuple[Choice, ...] = ()
    zoom: bool = False


@dataclass(frozen=True)
class Grid:
    """Figures side by side, where there is room, and one legend for all of them."""

    figures: tuple[Figure, ...]
    legend: Legend | None = None


@dataclass(frozen=True)
class Facts:
    """Names and values, under a heading."""

    pairs: tuple[tuple[str, str], ...]
    title: str = ""


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """Text to be copied as it is."""

    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away."""

    summary: str
    blocks: tuple[Block, ...]


Block = str | Table | Figure | Grid | Facts | Items | Command | Details


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading; `id` as a figure's."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class KeyFigure:
    """A number that stands out at the top: what it is, the number, and its interval and n."""

    label: str
    value: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: of the page and of the browser's window.
        finding: what was found, in a sentence or two.
        sections: in order.
        footer: one line.
        kind: one or two words above the title, such as "Refusal audit".
        key_figures: a few numbers under the finding.
        cautions: what a reader must know before believing the finding.
        about: under the title, what the page is of: when, which weights, which prompts.
    """

    title: str
    finding: str
    sections: tuple[Section, ...]
    footer: str
    kind: str = ""
    key_figures: tuple[KeyFigure, ...] = ()
    cautions: tuple[str, ...] = ()
    about: tuple[str, ...] = ()


def figures_of(page: Page) -> Iterator[Figure]:
    """Every figure, in the order of the page."""

    def inside(blocks: tuple[Block, ...]) -> Iterator[Figure]:
        for block in blocks:
            if isinstance(block, Figure):
                yield block
            elif isinstance(block, Grid):
                yield from block.figures
            elif isinstance(block, Details):
                yield from inside(block.blocks)

    for section in page.sections:
        yield from inside(section.blocks)


def _is_numeric(cells: list[str | Cell]) -> bool:
    """Whether all cells that say something, besides what went wrong, are numbers."""
    texts = [cell if isinstance(cell, str) else cell.text for cell in cells if isinstance(cell, str) or not cell.tone]
    there = [text for text in texts if text.strip("-–— ")]
    return bool(there) and all(_NUMBER.match(text) for text in there)
