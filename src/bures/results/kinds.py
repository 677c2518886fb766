"""Over-refusal taken apart by the kind of prompt that the file names, as XSTest's is; no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from bures.results.marks import UNFINISHED
from bures.results.stats import Measurement, proportion


def refused_by_kind(marks: str, kinds: Sequence[str | None]) -> dict[str, Measurement]:
    """Share of refused answers of every kind with a Wilson interval, the largest kind first.

    Prompts without a kind, unfinished answers, and kinds of which nothing is finished are left out.

    Args:
        marks: one character a prompt, 1 where the judge saw a refusal.
        kinds: of the prompts, in the same order.
    """
    found: defaultdict[str, list[bool]] = defaultdict(list)
    for mark, kind in zip(marks, kinds, strict=True):
        if kind is not None and mark != UNFINISHED:
            found[kind].append(mark == "1")
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return {kind: proportion(sum(each), len(each)) for kind, each in ordered}
