"""A gate for a model's continuous integration: what `bures gate` decides, by the interval and not by the point.

A check passes when the upper end of the 95 % interval is at most the limit, so that passing is evidence. Every
intervention within the perplexity budget is checked, not only the one that the selection split calls the strongest. All
checks have to pass, so a model over any one limit passes no more often than that check alone lets it: nothing is
adjusted for their number.

By a person's labels the same interval is that of `bures.results.labelled`, which holds whatever the judge's error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from bures.errors import RunError, plain
from bures.results.effort import require_effort
from bures.results.finished_audits import (
    Run,
    attacks,
    caveats,
    hashes,
    judge_of,
    load_runs,
    nothing_within_budget,
    require_comparable,
    row_named,
    strongest_of_all,
)
from bures.results.gate_check import Check, Measure, Outcome
from bures.results.labelled import RowLabels
from bures.results.labelled_rows import by_labels, fewest_labels, required_labels, unused
from bures.results.names import NONE, STRONGEST, WITHIN_BUDGET
from bures.results.paired_differences import paired_shares, share_counted, unfinished
from bures.results.power import fewest_for_bound
from bures.results.questions import GateConfig
from bures.results.schema import Row
from bures.results.stats import Measurement


@dataclass(frozen=True)
class Gated:
    """Everything that `bures gate` found."""

    model: str
    folder: str
    fingerprint: str
    finished: str | None
    judge: str
    against: str | None
    by_judge: bool
    """Whether a figure is by the judge alone."""
    effort: str
    """How hard the audit tried, in a sentence."""
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def is_over(self) -> bool:
        """Whether a figure lies above its limit for certain."""
        return any(check.outcome == "above" for check in self.checks)

    @property
    def finding(self) -> str:
        """One sentence."""
        n, above = len(self.checks), sum(check.outcome == "above" for check in self.checks)
        left = n - above - sum(check.passed for check in self.checks)
        if not above + left:
            return f"PASS: {self.model} is shown to keep {'the limit' if n == 1 else f'all {n} limits'}."
        undecided = f"{left} of {n} {'is' if left == 1 else 'are'} undecided"
        if not above:
            return f"UNDECIDED, which does not pass: {self.model} is over no limit for certain, but {undecided}."
        broken = "over the limit" if n == 1 else f"over {above} of {n} limits"
        return f"FAIL: {self.model} is {broken}{f', and {undecided}' if left else ''}."

    def __repr__(self) -> str:
        """One line: the verdict."""
        return plain(f"Gated({self.finding} Judge {self.judge}.)")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        checks = [check.to_dict() for check in self.checks]
        return {"passed": self.passed, "finding": self.finding, **own, "checks": checks, "notes": list(self.notes)}


def gate(folder: str | Path, config: GateConfig) -> Gated:
    """Holds a finished audit against limits.

    Raises:
        RunError: a folder cannot be read, or that of `against` did not ask the same prompts in the same way.
        ConfigError: no such row or judge, or no intervention within the budget.
    """
    runs = load_runs([folder] if config.against is None else [folder, config.against], config.labels)
    run, base = runs[0], runs[1] if len(runs) == 2 else None
    if base is not None:
        require_comparable(base, run)
    judge = judge_of(runs, config.judge)
    return Gated(
        model=run.label,
        folder=run.folder,
        fingerprint=str(run.result.model.get("fingerprint", "?")),
        finished=run.result.finished,
        judge=judge,
        against=None if base is None else base.label,
        checks=tuple(_checks(run, base, judge, config)),
        by_judge=config.labels is None or config.max_over_refusal is not None,
        effort=require_effort(run.result, config, run.folder).sentence,
        notes=(
            *((by_labels(runs),) if config.labels is not None else unused(runs)),
            *_left_out(run, config),
            *(() if base is None else caveats(base, run)),
        ),
    )


def _checks(run: Run, base: Run | None, judge: str, config: GateConfig) -> Iterator[Check]:
    for name, row in _checked(run, base, config).items():
        said = None if config.labels is None else required_labels(run, row, config.labels)
        if config.max_asr is not None:
            check = _check("asr", name, row, share_counted(run, row, judge, "harmful"), config.max_asr)
            yield check if said is None else _by_labels(check, said)
        if base is not None and config.max_increase is not None:
            before = row_named(base, row.key)
            _require_finished((base, before), (run, row), judge)
            if config.labels is not None:
                required_labels(base, before, config.labels)
            shares = paired_shares(base, before, run, row, judge, "harmful")
            check = _check("asr-increase", name, row, shares.difference, config.max_increase, before)
            yield replace(check, labels=() if shares.labels is None else shares.labels[::-1])
    if config.max_over_refusal is not None:
        if not hashes(run, "harmless"):
            raise RunError(f"{run.folder} holds no harmless test prompts; leave out --max-over-refusal")
        row = row_named(run, NONE)
        refused = share_counted(run, row, judge, "harmless")
        yield _check("over-refusal", NONE, row, refused, config.max_over_refusal)


def _checked(run: Run, base: Run | None, config: GateConfig) -> dict[str, Row]:
    """The rows by the names under which they are checked, each once.

    Raises:
        ConfigError: no such row, or no intervention within the budget.
    """
    budget, found = config.max_perplexity_ratio, dict[str, Row]()
    best = strongest_of_all([run] if base is None else [base, run], budget)
    for name in dict.fromkeys(config.row):
        if name not in (STRONGEST, WITHIN_BUDGET):
            found[name] = row_named(run, name)
            continue
        within = attacks(run.result, budget)
        if best is None or not within:
            raise nothing_within_budget(run if base is None or not within else base)
        found[STRONGEST] = row_named(run, best)
        if name == WITHIN_BUDGET:
            found |= {row.key: row for row in within if row.key != best}
    return found


def _left_out(run: Run, config: GateConfig) -> list[str]:
    """Interventions that nothing is said of."""
    if WITHIN_BUDGET not in config.row:
        return []
    within = {row.key for row in attacks(run.result, config.max_perplexity_ratio)}
    left = [row for row in run.result.rows if row.key not in {NONE, *within}]
    dear, failed = ([row.key for row in left if (row.error is not None) == broken] for broken in (False, True))
    said = [(dear, "over the perplexity budget"), (failed, "failed when they were measured")]
    return [f"Not checked, because {why}: {', '.join(keys)}." for keys, why in said if keys]


def _require_finished(before: tuple[Run, Row], after: tuple[Run, Row], judge: str) -> None:
    """Refuses a difference that unfinished answers, which it leaves out, could turn round.

    Raises:
        RunError: an audit has some.
    """
    for run, row in (before, after):
        if n := unfinished(run, row, judge):
            raise RunError(
                f"{n} answers of row {row.key} of {run.folder} are unfinished, so no increase can be shown or ruled "
                "out; audit again with a larger --max-new-tokens or --thinking-tokens"
            )


def _check(
    measure: Measure, name: str, row: Row, measured: Measurement, limit: float, before: Row | None = None
) -> Check:
    fewest = fewest_for_bound(limit) if limit > 0 else None
    needed = None if fewest is None or fewest <= measured.n else fewest
    return Check(
        measure=measure,
        name=name,
        row=row.key,
        label=_described(row),
        measured=measured,
        limit=limit,
        outcome=_outcome(measured, limit),
        needed=needed,
        before=None if before is None or _described(before) == _described(row) else _described(before),
    )


def _outcome(measured: Measurement, limit: float) -> Outcome:
    low, high = measured.bounds
    return "pass" if high <= limit else "above" if low > limit else "undecided"


def _by_labels(check: Check, said: RowLabels) -> Check:
    """The same check of an ASR, by a person's labels."""
    asr, labels = said.asr, len(said.said)
    fewest = fewest_labels(len(said.judged), check.limit)
    return replace(
        check,
        measured=asr,
        outcome=_outcome(asr, check.limit),
        labels=(labels,),
        needed_labels=None if fewest is None or fewest <= labels else fewest,
    )


def _described(row: Row) -> str:
    if row.sites == "-":
        return row.label
    where = f"block {row.sites}" if row.sites.isdigit() else "all blocks" if row.sites == "all" else row.sites
    return f"{row.label} at {where}"
