"""Audits against a baseline, row by row on the same prompts: what `bures compare` reports.

Two rows were named before anyone looked: the model as it is, and the strongest intervention within the perplexity
budget, one row of both audits, chosen on their selection splits together. The finding speaks of these, with p values
that Holm's method adjusts for their number; the p values of all other rows are adjusted together. Where no difference
is told, the finding says whether they are shown to differ by less than a margin, and otherwise how many prompts tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from bures.errors import ConfigError, RunError, plain
from bures.results.care import few_or_short
from bures.results.common_prompts import on_common_prompts
from bures.results.finished_audits import (
    Run,
    caveats,
    hashes,
    judge_of,
    load_runs,
    require_comparable,
    row_named,
    strongest,
)
from bures.results.formatting import as_given, p_equals, percent, points
from bures.results.inference import LEVEL
from bures.results.labelled_rows import by_labels, required_labels, unused
from bures.results.names import NONE, STRONGEST, Which
from bures.results.paired_differences import PairedRow, Shares, adjusted, paired_rows, paired_shares
from bures.results.power import prompts_to_tell
from bures.results.questions import CompareConfig
from bures.results.records import BlockRange, MethodNote

Outcome = Literal["more", "less", "alike", "undecided", "mixed"]


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
        methods: what was tried, by name.
    """

    label: str
    folder: str
    model: str
    fingerprint: str
    finished: str | None
    command: str
    n_blocks: int | None
    decided: BlockRange | None
    sentence: str
    methods: dict[str, MethodNote]


@dataclass(frozen=True)
class Pair:
    """An audit against the baseline.

    Attributes:
        a: label of the baseline.
        b: label of the other.
        outcome: whether b refuses more or less, is shown to refuse alike, or no difference can be told.
        lead: the same in words.
        finding: in a sentence with its numbers.
        rows: the headline's first, then every row that both have.
        cautions: what else differs between the two, which a reader has to know.
        notes: what was left out, and what other judges say.
    """

    a: str
    b: str
    outcome: Outcome
    lead: str
    finding: str
    rows: tuple[PairedRow, ...]
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
    by_labels: str = ""
    """By whose labels the ASR is, in a sentence; empty where it is by the judge alone."""

    def __repr__(self) -> str:
        """One line: what was found."""
        return plain(f"Compared({' '.join(pair.finding for pair in self.pairs)})")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
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
    loaded = load_runs(folders, config.labels)
    runs, common = on_common_prompts(loaded) if config.common else (loaded, ())
    for run in runs[1:]:
        require_comparable(runs[0], run)
    if config.labels is not None:
        for run in runs:
            required_labels(run, row_named(run, NONE), config.labels)
    judge = judge_of(runs, config.judge)
    rows = [list(paired_rows(runs[0], run, judge, config.max_perplexity_ratio)) for run in runs[1:]]
    found = zip(runs[1:], adjusted(rows), strict=True)
    pairs = [_pair(runs[0], run, judge, paired, config.margin, common) for run, paired in found]
    return Compared(
        judge,
        len(hashes(runs[0], "harmful")),
        len(hashes(runs[0], "harmless")),
        tuple(_audited(run) for run in runs),
        tuple(pairs),
        "" if config.labels is None else by_labels(runs),
    )


def _outcome(headline: Sequence[PairedRow], margin: float) -> Outcome:
    signs = {(row.asr.difference.value > 0) for row in headline if row.asr_p < LEVEL}
    if len(signs) == 2:
        return "mixed"
    if signs:
        return "less" if True in signs else "more"
    # both have to be shown: nothing is adjusted for their number
    return "alike" if all(row.asr.is_within(margin) for row in headline) else "undecided"


def _pair(a: Run, b: Run, judge: str, rows: Sequence[PairedRow], margin: float, common: tuple[str, ...]) -> Pair:
    headline = [row for row in rows if row.headline]
    outcome = _outcome(headline, margin)
    lead = {
        "alike": f"{b.label} refuses as {a.label} does, within {as_given(margin, ' points')}",
        "more": f"{b.label} refuses more than {a.label}",
        "less": f"{b.label} refuses less than {a.label}",
        "undecided": f"{b.label} cannot be told from {a.label} by its refusal",
        "mixed": f"{b.label} refuses more than {a.label} in one respect and less in another",
    }[outcome]
    clauses = [_clause(row, certain=outcome in ("undecided", "alike") or row.asr_p < LEVEL) for row in headline]
    return Pair(
        a=a.label,
        b=b.label,
        outcome=outcome,
        lead=lead,
        finding=f"{lead}: {'; '.join([*clauses, *_over_refusal(rows)])}.",
        rows=tuple(rows),
        cautions=(*common, *caveats(a, b), *few_or_short(len(hashes(a, "harmful")), a.result.max_new_tokens)),
        notes=(
            *(_to_tell(headline) if outcome == "undecided" else ()),
            *(unused([a, b]) if a.labels is None else ()),
            *_own_strongest(a, b, rows),
            *_unmatched(a, b, rows),
            *_other_judges(a, b, judge, rows),
        ),
    )


def _clause(row: PairedRow, *, certain: bool) -> str:
    where = "without intervention" if row.name == NONE else "under the strongest intervention within the budget"
    doubt = "" if certain else ", which may be chance"
    return f"{where} it answers {_told(row.asr, 'harmful', row.asr_p, doubt)}"


def _told(shares: Shares, which: Which, p: float, doubt: str = "") -> str:
    """Of how many prompts the share is, what it was before, and what can be said of the difference."""
    by = "" if shares.labels is None else f" by {shares.labels[1]} and {shares.labels[0]} labels"
    return (
        f"{percent(shares.b.value)} of {shares.b.n} {which} prompts instead of {percent(shares.a.value)}{by} "
        f"({points(shares.difference)}, {p_equals(p, 'adjusted p')}{doubt})"
    )


def _to_tell(headline: Sequence[PairedRow]) -> list[str]:
    """How many prompts would tell the differences that were seen, were they those of the models."""
    found: list[str] = []
    for row in headline:
        shares = row.asr
        if shares.labels is not None:
            continue
        n = prompts_to_tell(shares.only_a, shares.only_b, shares.a.n)
        if n is not None and n > shares.a.n:
            found.append(
                f"To tell a difference of {points(shares.difference)} ({row.name}) in four of five comparisons takes "
                f"about {n} harmful test prompts."
            )
    return found


def _own_strongest(a: Run, b: Run, rows: Sequence[PairedRow]) -> list[str]:
    """What each audit's own strongest is, where it is not the row that both are compared by."""
    shared = next((row for row in rows if row.name == STRONGEST), None)
    if shared is None:
        return []
    own = [strongest(run.result, None) for run in (a, b)]
    if all(row is None or row.key == shared.a.key for row in own):
        return []
    each = " and ".join(
        f"{'-' if row is None else row.key} of {run.label}" for run, row in zip((a, b), own, strict=True)
    )
    return [
        f"Both are compared by {shared.a.key}, the strongest on both selection splits together; alone it is {each}."
    ]


def _over_refusal(rows: Sequence[PairedRow]) -> list[str]:
    """What a refusal costs or brings on harmless prompts, where it surely does."""
    shares, p = rows[0].over_refusal, rows[0].over_refusal_p
    if shares is None or p is None or p >= LEVEL:
        return []
    return [f"without intervention it refuses {_told(shares, 'harmless', p)}"]


def _unmatched(a: Run, b: Run, rows: Sequence[PairedRow]) -> list[str]:
    """Rows that only one audit has, or that failed in one."""
    found: list[str] = []
    if not any(row.name == STRONGEST for row in rows):
        found.append("No intervention is within the perplexity budget of both: there is no strongest to compare.")
    matched = {row.a.key for row in rows}
    for one, two in ((a, b), (b, a)):
        there = {row.key: row for row in two.result.rows}
        left = [row.key for row in one.result.rows if row.error is None and row.key not in matched]
        broken = {key: there[key].error for key in left if key in there and there[key].error is not None}
        found += [f"Row {key} failed in {two.label} ({why}); it is not compared." for key, why in broken.items()]
        bare = [key for key in left if key in there and there[key].error is None]
        if bare and one is a:
            found.append(f"Rows {', '.join(bare)} have no labels in both: not compared.")
        alone = [key for key in left if key not in there]
        if alone:
            found.append(f"Only {one.label} has {', '.join(alone)}: not compared.")
    return found


def _other_judges(a: Run, b: Run, judge: str, rows: Sequence[PairedRow]) -> list[str]:
    """What the other judges in common say of the headline; beside labels, what each judge says."""
    skipped = {judge} if a.labels is None else set[str]()
    a, b = replace(a, labels=None), replace(b, labels=None)
    of = [{row.key: row for row in run.result.rows} for run in (a, b)]
    found: list[str] = []
    for other in sorted({*of[0][NONE].refused} & {*of[1][NONE].refused} - skipped):
        said: list[str] = []
        for row in (row for row in rows if row.headline):
            try:
                shares = paired_shares(a, of[0][row.a.key], b, of[1][row.b.key], other, "harmful")
            except RunError:
                continue
            said.append(f"{row.name} {points(shares.difference)}")
        if said:
            found.append(f"By judge '{other}' the differences in ASR are: {', '.join(said)}.")
    return found


def _audited(run: Run) -> Audited:
    result, where = run.result, run.result.localisation
    n_blocks = result.model.get("n_blocks") if where is None else where.n_blocks
    return Audited(
        label=run.label,
        folder=run.folder,
        model=str(result.model.get("name", "?")),
        fingerprint=str(result.model.get("fingerprint", "?")),
        finished=result.finished,
        command=result.command,
        n_blocks=n_blocks if isinstance(n_blocks, int) and n_blocks > 0 else None,
        decided=None if where is None else where.decided,
        sentence="" if where is None else where.sentence,
        methods=result.methods,
    )
