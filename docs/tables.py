"""Fills the tables of the README and the documentation from the results in `docs/results/`.

    python docs/tables.py            # writes them
    python docs/tables.py --check    # exits 1 where one is not what its results say

A table stands between `<!-- export: FOLDER -->` and `<!-- end -->`, and is that of `bures export FOLDER`. Columns that
are named behind the folder, as in `<!-- export: FOLDER: name; KL [95 %] -->`, are the only ones.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
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


def filled(text: str) -> str:
    """A page with its tables as the results say."""

    def fill(found: re.Match[str]) -> str:
        columns = [name.strip() for name in (found[3] or "").split(";") if name.strip()]
        return found[1] + "\n" + table(ROOT / found[2], columns) + "\n" + found[4]

    return _MARKED.sub(fill, text)


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
