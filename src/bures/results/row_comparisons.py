"""Rows of one audit against each other: who answers more on the same prompts, and what a row costs over the original.

The family of comparisons was named before anyone looked: every intervention against the model as it is, the methods at
one placement (one block, two, all) against each other, and the placements of one method. Their p values are adjusted
for their number, per judge (Holm); pairs of other rows are counted, and nothing is said of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from bures.results.bootstrap import bootstrap_ratio_of_sums, exponential
from bures.results.inference import holm, mcnemar, paired_difference
from bures.results.marks import UNFINISHED
from bures.results.names import NONE
from bures.results.schema import Row, RowComparison
from bures.results.stats import Measurement


@dataclass(frozen=True)
class _Counted:
    """Two rows, and the prompts with a finished answer in both."""

    a: Row
    b: Row
    only_a: int
    only_b: int
    n: int


def between_rows(rows: Sequence[Row]) -> list[RowComparison]:
    """McNemar's test between every two rows, per judge, on the harmful test prompts that both answered to the end."""
    measured = [row for row in rows if row.refused]
    found: list[RowComparison] = []
    for judge in dict.fromkeys(judge for row in measured for judge in row.refused):
        pairs = [
            _counted(a, b, judge) for a, b in combinations(measured, 2) if judge in a.refused and judge in b.refused
        ]
        found += _adjusted([pair for pair in pairs if pair.n], judge)
    return found


def perplexity_over(row: Row, original: Row, tokens: Sequence[int]) -> Measurement | None:
    """Perplexity of a row over that of the model as it is, along the same answers; None where they were not measured.

    Args:
        row: the row.
        original: the row of the model as it is.
        tokens: of every harmless test answer.
    """
    if not len(tokens) == len(row.nll_each) == len(original.nll_each) or not tokens:
        return None
    risen = [(x - y) * n for x, y, n in zip(row.nll_each, original.nll_each, tokens, strict=True)]
    return exponential(bootstrap_ratio_of_sums(risen, [float(n) for n in tokens]))


def _counted(a: Row, b: Row, judge: str) -> _Counted:
    marks = list(zip(a.refused[judge], b.refused[judge], strict=True))
    finished = sum(UNFINISHED not in pair for pair in marks)
    return _Counted(a, b, marks.count(("0", "1")), marks.count(("1", "0")), finished)


def _adjusted(pairs: Sequence[_Counted], judge: str) -> list[RowComparison]:
    found = [
        RowComparison(
            a=pair.a.key,
            b=pair.b.key,
            judge=judge,
            only_a=pair.only_a,
            only_b=pair.only_b,
            p=mcnemar(pair.only_a, pair.only_b),
            difference=paired_difference(pair.only_a, pair.only_b, pair.n),
        )
        for pair in pairs
    ]
    family = [i for i, pair in enumerate(pairs) if _of_the_family(pair.a, pair.b)]
    for i, p in zip(family, holm([found[i].p for i in family]), strict=True):
        found[i] = found[i].model_copy(update={"p_adjusted": p})
    return found


def _of_the_family(a: Row, b: Row) -> bool:
    return NONE in (a.key, b.key) or a.method == b.method or _placement(a) == _placement(b)


def _placement(row: Row) -> str:
    """What a row's key ends with: 1, 2, all or sites."""
    return row.key.removeprefix(f"{row.method}-")
