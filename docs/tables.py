"""Fills the tables of the README and the documentation from the results in `docs/results/`.

    python docs/tables.py            # writes them
    python docs/tables.py --check    # exits 1 where one is not what its results say

A table stands between `<!-- export: FOLDER -->` and `<!-- end -->`, and is that of `bures export FOLDER`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_MARKED = re.compile(r"(<!-- export: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(folder: Path) -> str:
    """The table of a run, as Markdown: the lines of `bures export` that begin with a bar."""
    from bures.report.export import export
    from bures.results.run_folder import load_result
    from bures.results.schema import RunResult

    lines = export(load_result(folder, RunResult), "markdown").splitlines()
    return "".join(f"{line}\n" for line in lines if line.startswith("|"))


def filled(text: str) -> str:
    """A page with its tables as the results say."""
    return _MARKED.sub(lambda found: found[1] + "\n" + table(ROOT / found[2]) + "\n" + found[3], text)


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
