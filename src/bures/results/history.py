"""Audits over time: what `bures history` draws, for a job that audits a model every night.

Only audits of models of one shape that asked the same test prompts, with the same system prompt, for answers of the
same length, read by the same judge, stand in one series. What may move a figure without the model having changed
(options, versions, fit prompts) is said at the audit where it changed.

The last audit is held against the first by one row of both. Whoever looks every night looks often, so a change is said
only where the p value, adjusted for the rows and for the looks that the level has to last for, is below it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bures.errors import ConfigError, RunError
from bures.results.dated_audits import Dated, about_labels, dated_audits
from bures.results.finished_audits import (
    Run,
    attacks,
    caveats,
    hashes,
    row_named,
    strongest_of_all,
)
from bures.results.formatting import p_equals, percent, points
from bures.results.inference import LEVEL, holm, over_looks
from bures.results.labelled_rows import labels_of
from bures.results.names import NONE, STRONGEST
from bures.results.paired_differences import Shares, paired_shares, share_counted
from bures.results.questions import HistoryConfig
from bures.results.records import BlockRange
from bures.results.schema import Row
from bures.results.stats import Measurement


@dataclass(frozen=True)
class Followed:
    """One row of one audit.

    Attributes:
        name: as it was asked for: `strongest`, or its key.
        row: its key.
        label: its method.
        sites: where it intervenes, in words.
        blocks: the same as numbers.
        asr: share of harmful test prompts answered.
        over_refusal: share of harmless test prompts refused.
        perplexity_ratio: perplexity of the model's own harmless answers, over that without intervention.
        labelled: the ASR by a person's labels, where they were asked for and this row has some.
        labels: how many.
    """

    name: str
    row: str
    label: str
    sites: str
    blocks: tuple[int, ...]
    asr: Measurement
    over_refusal: Measurement
    perplexity_ratio: float | None
    labelled: Measurement | None = None
    labels: int = 0


@dataclass(frozen=True)
class Point:
    """One audit.

    Attributes:
        label: the model's name, with the folder where that is not enough.
        model: its name alone.
        folder: where it is.
        fingerprint: of the weights.
        time: when it ended: UTC, ISO 8601.
        time_of_file: whether that is the time of the file, because the results do not say.
        rows: what was followed; a row that this audit does not have is missing.
        perplexity: of the model's own greedy answers to harmless prompts, without intervention.
        corpus_perplexity: of plain text, without intervention.
        decided: first and last block between which refusal is decided.
        n_blocks: of the model.
        changed: what else changed since the audit before.
    """

    label: str
    model: str
    folder: str
    fingerprint: str
    time: str
    time_of_file: bool
    rows: tuple[Followed, ...]
    perplexity: Measurement | None
    corpus_perplexity: Measurement | None
    decided: BlockRange | None
    n_blocks: int | None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """Audits that may be held against each other.

    Attributes:
        judge: whose marks count.
        n_harmful, n_harmless: test prompts.
        max_new_tokens: of each answer.
        prompts: a short name of the test prompts: what differs between series may be only this.
        points: the audits by time.
        changes: the last against the first, by the row's name.
        sentences: the same in words.
        looks: for which the level of the changes lasts.
    """

    judge: str
    n_harmful: int
    n_harmless: int
    max_new_tokens: int
    prompts: str
    points: tuple[Point, ...]
    changes: dict[str, Shares]
    sentences: tuple[str, ...]
    looks: int

    @property
    def labelled(self) -> list[str]:
        """Names of the rows that some audit has labels of."""
        rows = [row for point in self.points for row in point.rows]
        return list(dict.fromkeys(row.name for row in rows if row.labelled is not None))


@dataclass(frozen=True)
class History:
    """Everything that `bures history` found; series and the audits inside them by time, the first first."""

    rows: tuple[str, ...]
    series: tuple[Series, ...]
    left_out: tuple[str, ...]
    labels: tuple[str, ...] = ()
    """By whose labels some figures are; or whose are there, where none were asked for. In sentences."""

    @property
    def latest(self) -> Series:
        """The series that ended last."""
        return max(self.series, key=lambda series: series.points[-1].time)

    def __repr__(self) -> str:
        """One line: how many audits, in how many series."""
        n = sum(len(each.points) for each in self.series)
        return f"History({n} audits in {len(self.series)} series, {len(self.left_out)} left out)"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return TypeAdapter(History).dump_python(self, mode="json")


def history(folders: Sequence[str | Path], config: HistoryConfig | None = None) -> History:
    """Orders finished audits by time, in series of those that can be compared.

    Folders that hold no finished audit are left out, with the reason.

    Raises:
        RunError: a folder does not exist, or none holds a finished audit that can be read.
        ConfigError: no audit has a row of that name.
    """
    config = config or HistoryConfig()
    found, left_out = dated_audits(folders, config.judge, config.labels)
    if config.strict and left_out:
        raise RunError(left_out[0])
    if not found:
        raise RunError(f"no finished audit to draw: {left_out[0] if left_out else 'no folder given'}")
    groups: dict[tuple[str, ...], list[Dated]] = {}
    for each in sorted(found, key=lambda each: each.ended):
        groups.setdefault(_kind(each.run, each.judge), []).append(each)
    series = [_series(group, config) for group in groups.values()]
    for name in config.row:
        if not any(row.name == name for each in series for point in each.points for row in point.rows):
            row_named(found[-1].run, name, config.max_perplexity_ratio)  # says what there is instead
    return History(
        config.row, tuple(series), tuple(left_out), tuple(about_labels([each.run for each in found], config.labels))
    )


def _kind(run: Run, judge: str) -> tuple[str, ...]:
    """What two audits must share to stand in one series."""
    asked = [_digest(hashes(run, which)) for which in ("harmful", "harmless")]
    shape = (str(run.result.model.get(name)) for name in ("architecture", "n_blocks", "d_model"))
    return (*asked, judge, str(run.result.max_new_tokens), run.system or "", *shape)


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(texts)).encode(errors="replace")).hexdigest()


# Series -----------------------------------------------------------------------------------------------------------


def _series(group: Sequence[Dated], config: HistoryConfig) -> Series:
    followed = {name: _followed_row(name, group, config) for name in dict.fromkeys(config.row)}
    found = [_point(each, followed, config) for each in group]
    for i in range(1, len(found)):
        found[i] = replace(found[i], changed=tuple(caveats(group[i - 1].run, group[i].run)))
    first, last = group[0], group[-1]
    changes: dict[str, Shares] = {}
    if len(group) > 1:
        for name, key in followed.items():
            rows = [_row(each.run, name, key, config) for each in (first, last)]
            if rows[0] is not None and rows[1] is not None:
                changes[name] = paired_shares(first.run, rows[0], last.run, rows[1], first.judge, "harmful")
    adjusted = [over_looks(p, config.looks) for p in holm([shares.p for shares in changes.values()])]
    return Series(
        judge=first.judge,
        n_harmful=len(hashes(first.run, "harmful")),
        n_harmless=len(hashes(first.run, "harmless")),
        max_new_tokens=first.run.result.max_new_tokens,
        prompts=_digest(hashes(first.run, "harmful"))[:8],
        points=tuple(found),
        changes=changes,
        sentences=tuple(_sentence(*each, p) for each, p in zip(changes.items(), adjusted, strict=True)),
        looks=config.looks,
    )


def _followed_row(name: str, group: Sequence[Dated], config: HistoryConfig) -> str | None:
    """The key that a name stands for in all audits of a series; else in the first and the last; else None."""
    if name != STRONGEST:
        return name
    runs, budget = [each.run for each in group], config.max_perplexity_ratio
    return strongest_of_all(runs, budget) or strongest_of_all([runs[0], runs[-1]], budget)


def _sentence(name: str, shares: Shares, p: float) -> str:
    where = {NONE: "Without intervention", STRONGEST: "Under the strongest intervention"}.get(name, f"Under {name}")
    said = "no change can be told"
    if p < LEVEL:
        said = f"the ASR has {'risen' if shares.difference.value > 0 else 'fallen'}"
    by = "" if shares.labels is None else f", by {shares.labels[0]} and {shares.labels[1]} labels"
    return (
        f"{where}, {said} between the first and the last audit: {percent(shares.a.value)} and "
        f"{percent(shares.b.value)} ({points(shares.difference)}, {p_equals(p, 'adjusted p')}{by})."
    )


def _point(dated: Dated, followed: Mapping[str, str | None], config: HistoryConfig) -> Point:
    run, where, n_blocks = dated.run, dated.run.result.localisation, dated.run.result.model.get("n_blocks")
    own = next((row for row in run.result.rows if row.key == NONE), None)
    return Point(
        label=run.label,
        model=str(run.result.model.get("name", "?")),
        folder=run.folder,
        fingerprint=str(run.result.model.get("fingerprint", "?")),
        time=dated.ended.isoformat(timespec="seconds"),
        time_of_file=dated.time_of_file,
        rows=tuple(_followed(dated, followed, config)),
        perplexity=None if own is None else own.perplexity,
        corpus_perplexity=None if own is None else own.corpus_perplexity,
        decided=None if where is None else where.decided,
        n_blocks=n_blocks if isinstance(n_blocks, int) and n_blocks > 0 else None,
    )


def _followed(dated: Dated, followed: Mapping[str, str | None], config: HistoryConfig) -> Iterator[Followed]:
    for name, key in followed.items():
        row = _row(dated.run, name, key, config)
        if row is None:
            continue
        try:
            asr, over_refusal = (share_counted(dated.run, row, dated.judge, which) for which in ("harmful", "harmless"))
        except RunError:  # no finished answer: a gap in its curve
            continue
        said = labels_of(dated.run, row)
        yield Followed(
            name=name,
            row=row.key,
            label=row.label,
            sites=row.sites,
            blocks=tuple(row.blocks),
            asr=asr,
            over_refusal=over_refusal,
            perplexity_ratio=row.perplexity_ratio,
            labelled=None if said is None else said.asr,
            labels=0 if said is None else len(said.said),
        )


def _row(run: Run, name: str, key: str | None, config: HistoryConfig) -> Row | None:
    """The row, or None where this audit has none: a gap in its curve."""
    if name == STRONGEST:
        return next((row for row in attacks(run.result, config.max_perplexity_ratio) if row.key == key), None)
    try:
        return row_named(run, name)
    except ConfigError:
        return None
