"""Audits against a baseline, row by row on the same prompts: what `bures compare` reports.

Two lines were named before anyone looked: the model as it is, and the strongest intervention within the perplexity
budget (chosen on each audit's selection split). The verdict speaks of these, with p values that Holm's method adjusts
for their number; the p values of all other rows are adjusted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bures.errors import ConfigError, RunError
from bures.results.finished_audits import (
    Run,
    caveats,
    hashes,
    judge_of,
    load_runs,
    require_comparable,
)
from bures.results.names import NONE, STRONGEST
from bures.results.paired_differences import LEVEL, Line, adjusted, adjusted_p, paired_lines, paired_shares, points
from bures.results.questions import CompareConfig

Outcome = Literal["more", "less", "undecided", "mixed"]


@dataclass(frozen=True)
class Audited:
    """What was compared.

    Attributes:
        label: the model's name, with the folder where that is not enough.
        folder: where the audit is.
        model: the model's name.
        fingerprint: of its weights.
        finished: when the audit ended, where its results say.
        command: that measures the same.
        n_blocks: of the model.
        decided: first and last block between which refusal is decided.
        sentence: what the audit said of that.
    """

    label: str
    folder: str
    model: str
    fingerprint: str
    finished: str | None
    command: str
    n_blocks: int | None
    decided: tuple[int, int] | None
    sentence: str


@dataclass(frozen=True)
class Pair:
    """An audit against the baseline.

    Attributes:
        a: label of the baseline.
        b: label of the other.
        outcome: whether b refuses more, less, or no difference can be told.
        lead: the same in words.
        verdict: in a sentence with its numbers.
        lines: the headline's first, then every row that both have.
        cautions: what else differs between the two, which a reader has to know.
        notes: what was left out, and what other judges say.
    """

    a: str
    b: str
    outcome: Outcome
    lead: str
    verdict: str
    lines: tuple[Line, ...]
    cautions: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """Everything that `bures compare` found."""

    judge: str
    n_harmful: int
    n_harmless: int
    audits: tuple[Audited, ...]
    pairs: tuple[Pair, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        from pydantic import TypeAdapter

        return TypeAdapter(Compared).dump_python(self, mode="json")


def compare(folders: Sequence[str | Path], config: CompareConfig | None = None) -> Compared:
    """Holds finished audits against the first of them.

    Raises:
        RunError: a folder cannot be read, or its prompts or lengths of answers are not those of the baseline.
        ConfigError: fewer than two folders, one twice, or no judge in common.
    """
    config = config or CompareConfig()
    if len(folders) < 2:
        raise ConfigError("one run folder given; expected the baseline and at least one more")
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise ConfigError("the same run folder twice; expected different audits")
    runs = load_runs(folders)
    for run in runs[1:]:
        require_comparable(runs[0], run)
    judge = judge_of(runs, config.judge)
    lines = [list(paired_lines(runs[0], run, judge, config.max_perplexity_ratio)) for run in runs[1:]]
    pairs = [_pair(runs[0], run, judge, found) for run, found in zip(runs[1:], adjusted(lines), strict=True)]
    return Compared(
        judge,
        len(hashes(runs[0], "harmful")),
        len(hashes(runs[0], "harmless")),
        tuple(_audited(run) for run in runs),
        tuple(pairs),
    )


# Words ------------------------------------------------------------------------------------------------------------


def _pair(a: Run, b: Run, judge: str, lines: Sequence[Line]) -> Pair:
    signs = {(line.asr.difference.value > 0) for line in lines if line.headline and line.asr_p < LEVEL}
    outcome: Outcome = "undecided" if not signs else "mixed" if len(signs) == 2 else "less" if True in signs else "more"
    lead = {
        "more": f"{b.label} refuses more than {a.label}",
        "less": f"{b.label} refuses less than {a.label}",
        "undecided": f"{b.label} cannot be told from {a.label} by its refusal",
        "mixed": f"{b.label} refuses more than {a.label} in one respect and less in another",
    }[outcome]
    clauses = [_clause(line, certain=outcome == "undecided" or line.asr_p < LEVEL) for line in lines if line.headline]
    return Pair(
        a=a.label,
        b=b.label,
        outcome=outcome,
        lead=lead,
        verdict=f"{lead}: {'; '.join([*clauses, *_over_refusal(lines)])}.",
        lines=tuple(lines),
        cautions=tuple(caveats(a, b)),
        notes=(*_unmatched(a, b, lines), *_other_judges(a, b, judge, lines)),
    )


def _clause(line: Line, *, certain: bool) -> str:
    where = "without intervention" if line.name == NONE else "under the strongest intervention within the budget"
    shares, doubt = line.asr, "" if certain else ", which may be chance"
    return (
        f"{where} it answers {shares.b.value:.1%} of {shares.b.n} harmful prompts instead of {shares.a.value:.1%} "
        f"({points(shares)}, {adjusted_p(line.asr_p)}{doubt})"
    )


def _over_refusal(lines: Sequence[Line]) -> list[str]:
    """What a refusal costs or brings on harmless prompts, where it surely does."""
    line = lines[0]
    shares = line.over_refusal
    if shares is None or line.over_refusal_p is None or line.over_refusal_p >= LEVEL:
        return []
    said = f"{shares.b.value:.1%} of {shares.b.n} harmless prompts instead of {shares.a.value:.1%}"
    return [f"without intervention it refuses {said} ({points(shares)}, {adjusted_p(line.over_refusal_p)})"]


def _unmatched(a: Run, b: Run, lines: Sequence[Line]) -> list[str]:
    """Rows that only one audit has, or that failed in one."""
    found: list[str] = []
    if not any(line.name == STRONGEST for line in lines):
        found.append("One audit has no intervention within the perplexity budget: there is no strongest to compare.")
    matched = {line.name for line in lines}
    for one, two in ((a, b), (b, a)):
        there = {row.key: row for row in two.result.rows}
        left = [row.key for row in one.result.rows if row.error is None and row.key not in matched]
        found += [
            f"Row {key} failed in {two.label} ({there[key].error}); it is not compared." for key in left if key in there
        ]
        alone = [key for key in left if key not in there]
        if alone:
            found.append(f"Only {one.label} has {', '.join(alone)}: not compared.")
    return found


def _other_judges(a: Run, b: Run, judge: str, lines: Sequence[Line]) -> list[str]:
    """What the other judges in common say of the headline."""
    of = [{row.key: row for row in run.result.rows} for run in (a, b)]
    found: list[str] = []
    for other in sorted({*of[0][NONE].refused} & {*of[1][NONE].refused} - {judge}):
        said: list[str] = []
        for line in (line for line in lines if line.headline):
            try:
                shares = paired_shares(a, of[0][line.a.key], b, of[1][line.b.key], other, "harmful")
            except RunError:
                continue
            said.append(f"{line.name} {points(shares)}")
        if said:
            found.append(f"By judge '{other}' the differences in ASR are: {', '.join(said)}.")
    return found


def _audited(run: Run) -> Audited:
    result, where = run.result, run.result.localisation
    decided = None if where is None or where.first is None or where.last is None else (where.first, where.last)
    n_blocks = result.model.get("n_blocks") if where is None else where.n_blocks
    return Audited(
        label=run.label,
        folder=run.folder,
        model=str(result.model.get("name", "?")),
        fingerprint=str(result.model.get("fingerprint", "?")),
        finished=result.finished,
        command=result.command,
        n_blocks=n_blocks if isinstance(n_blocks, int) and n_blocks > 0 else None,
        decided=decided,
        sentence="" if where is None else where.sentence,
    )
