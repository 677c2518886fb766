"""Fills the tables of the README and the documentation from the results in `docs/results/`.

    python docs/tables.py            # writes them
    python docs/tables.py --check    # exits 1 where one is not what its results say

A table stands between `<!-- export: FOLDER -->` and `<!-- end -->`, and is that of `bures export FOLDER`. Columns that
are named behind the folder, as in `<!-- export: FOLDER: name; KL [95 %] -->`, are the only ones.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_MAPS = re.compile(r"(<!-- maps: ([^\s:]+): (\w+); (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MARKED = re.compile(r"(<!-- export: ([^\s:]+)(?:: ([^\n]+?))? -->\n).*?(<!-- end -->)", re.DOTALL)


def table(folder: Path, columns: Sequence[str] = ()) -> str:
    """The table of a run, as Markdown: the lines of `bures export` that begin with a bar, or some columns of them."""
    from bures.report.export import export
    from bures.results.run_folder import load_result
    from bures.results.schema import RunResult

    lines = export(load_result(folder, RunResult), "markdown").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    if columns:
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        places = [cells[0].index(name) for name in columns]
        rows = [f"| {' | '.join(row[place] for place in places)} |" for row in cells]
        rows[1] = "|" + "---|" * len(columns)
    return "".join(f"{row}\n" for row in rows)


NAMES = {"rfa": "RFA", "mean-act": "Mean-AcT", "act": "Linear-AcT", "pca-ot": "PCA-OT"}


def maps_table(path: Path, kind: str, scope: str) -> str:
    """What was found of maps, first draw: a row a map (or a part, or a position to fit it on), a column a block."""
    cells: dict[tuple[str, ...], dict[str, Any]] = {
        tuple(key.split()[1:]): cell
        for key, cell in json.loads(path.read_text(encoding="utf-8"))["cells"].items()
        if key.startswith("d0 ") and key.endswith(f" {scope}")
    }
    blocks = sorted({key[0] for key in cells}, key=lambda block: int(block[1:]))
    rows = dict.fromkeys(key[1:5] for key in cells if (key[1] == "last") or kind == "positions")
    if kind != "parts":
        rows = {row: None for row in rows if row[3] == "full"}
    lines = [["", *(f"block {block[1:]}" for block in blocks)]]
    for row in sorted(rows, key=lambda row: (list(NAMES).index(row[1]), row[2])):
        found = [cells.get((block, *row, scope)) for block in blocks]
        lines.append([_map_name(kind, *row), *(_of_map(kind, cell) for cell in found)])
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _map_name(kind: str, position: str, method: str, rank: str, part: str) -> str:
    name = NAMES[method] + ("" if rank == "k0" else f", K = {rank[1:]}")
    fitted = {"last": "prompt's last token", "instruction": "instruction's last token", "pooled": "both"}[position]
    return f"{name}: {fitted}" if kind == "positions" else name + ("" if part == "full" else f", {part} alone")


def _of_map(kind: str, cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "-"
    if kind == "KL":
        found, (value, low, high) = cell["at_kl"], cell["at_kl"]["removed"]
        return f"{value:.2f} [{low:.2f}, {high:.2f}] at strength {found['strength']:.2f}"
    if kind == "moved":
        return f"{cell['harmless_moved']:.2f}" + ("" if "stretch" not in cell else f" ({max(cell['stretch']):.1f})")
    return f"{cell['removed'][0]:.2f} at {cell['kl']:.2f}"


def filled(text: str) -> str:
    """A page with its tables as the results say."""

    def fill(found: re.Match[str]) -> str:
        columns = [name.strip() for name in (found[3] or "").split(";") if name.strip()]
        return found[1] + "\n" + table(ROOT / found[2], columns) + "\n" + found[4]

    def fill_maps(found: re.Match[str]) -> str:
        return found[1] + "\n" + maps_table(ROOT / found[2], found[3], found[4]) + "\n" + found[5]

    return _MAPS.sub(fill_maps, _MARKED.sub(fill, text))


def main() -> int:
    """Writes or checks the tables."""
    check, wrong = "--check" in sys.argv[1:], list[str]()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = filled(text)
        if found != text:
            wrong.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(found, encoding="utf-8")
    if check and wrong:
        print(f"tables that are not what docs/results says: {', '.join(wrong)}; run python docs/tables.py")
    return int(check and bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
