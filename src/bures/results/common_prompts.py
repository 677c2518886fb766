"""Audits cut down to the test prompts that all of them asked, so that a quick look can be held against a long one.

Subsets of one seed lie inside each other (`bures.jobs.splits`), so of an audit with `--limit 12` and one with
`--limit 40` the twelve are left. Every figure of a row that is a share of prompts is counted anew from its marks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from bures.errors import ConfigError, RunError
from bures.results.finished_audits import Run, hashes
from bures.results.marks import UNFINISHED
from bures.results.names import Which
from bures.results.schema import Row, Tested

SIDES: tuple[Which, ...] = ("harmful", "harmless")


def on_common_prompts(runs: Sequence[Run]) -> tuple[list[Run], tuple[str, ...]]:
    """The audits on the test prompts that all asked, and what a reader has to know of that.

    Harmless prompts of which none is shared stay as they are.

    Raises:
        RunError: no harmful test prompt was asked in all of them.
        ConfigError: labels are read too, which are a sample of all answers.
    """
    if any(run.labels is not None for run in runs):
        raise ConfigError("--common and --labels exclude each other: labels are a sample of all answers of an audit")
    shared: dict[Which, set[str]] = {
        which: set.intersection(*(set(hashes(run, which)) for run in runs)) for which in SIDES
    }
    if not shared["harmful"]:
        raise RunError(f"{' and '.join(run.folder for run in runs)} share no harmful test prompt: nothing to compare")
    found = [_cut(run, {which: kept for which, kept in shared.items() if kept}) for run in runs]
    asked = "; ".join(f"{run.label}: {len(hashes(run, 'harmful'))} and {len(hashes(run, 'harmless'))}" for run in runs)
    said = (
        f"Compared on the {len(shared['harmful'])} harmful and {len(shared['harmless'])} harmless test prompts that "
        f"all audits asked ({asked})."
    )
    return found, (said,)


def _cut(run: Run, shared: dict[Which, set[str]]) -> Run:
    kept: dict[Which, list[int]] = {
        which: [i for i, key in enumerate(hashes(run, which)) if key in keys] for which, keys in shared.items()
    }
    of: dict[Which, int] = {which: len(hashes(run, which)) for which in SIDES}
    tested = dict(run.result.tested)
    for which, places in kept.items():
        whole = tested[which]
        tested[which] = Tested(
            hashes=[whole.hashes[i] for i in places], categories=[whole.categories[i] for i in places]
        )
    changes: dict[str, Any] = {"tested": tested, "rows": [_row(row, kept, of) for row in run.result.rows]}
    if "harmless" in kept:
        changes["answer_tokens"] = _items(run.result.answer_tokens, kept["harmless"], of["harmless"])
    return replace(run, result=run.result.model_copy(update=changes))


def _row(row: Row, kept: dict[Which, list[int]], of: dict[Which, int]) -> Row:
    changes: dict[str, Any] = {"unfinished": dict(row.unfinished)}
    for which, places in kept.items():
        name = "refused" if which == "harmful" else "refused_harmless"
        marks = {judge: "".join(_items(said, places, of[which])) for judge, said in getattr(row, name).items()}
        changes[name] = marks
        changes["unfinished"][which] = max((said.count(UNFINISHED) for said in marks.values()), default=0)
    for name in ("nll_each", "kl_each") if "harmless" in kept else ():
        changes[name] = _items(getattr(row, name), kept["harmless"], of["harmless"])
    return row.model_copy(update=changes)


def _items(each: Sequence[Any], places: Collection[int], n: int) -> list[Any]:
    """Those at the places; none where there is not one a prompt: damaged marks stay damaged."""
    return [each[i] for i in places] if len(each) == n else []
