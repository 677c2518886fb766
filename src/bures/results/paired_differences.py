"""How far apart two audits are, row by row on the same prompts: paired differences with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from bures.errors import RunError
from bures.results.bootstrap import bootstrap_difference, bootstrap_ratio_of_sums, exponential
from bures.results.finished_audits import Run, hashes, row_named, strongest_of_all
from bures.results.inference import LEVEL, holm, mcnemar, paired_difference
from bures.results.labelled_rows import both_labelled, labelled_pair, required_labels
from bures.results.marks import Mark, marks_of
from bures.results.names import NONE, STRONGEST, Which
from bures.results.schema import Row
from bures.results.shares import attack_success, refusals
from bures.results.stats import Measurement, proportion


@dataclass(frozen=True)
class Shares:
    """A share of the same prompts, before (a) and after (b); of those whose answer is finished in both.

    Attributes:
        a: of the first audit, with a Wilson interval.
        b: of the second.
        difference: b less a, with Tango's interval, which leaves out 0 exactly where p is below 0.05.
        nearly: its 90 % interval, by which two shares are called equivalent.
        only_a: prompts that count only in a, by the judge.
        only_b: prompts that count only in b, by the judge.
        p: McNemar's test.
        labels: of either side, where a, b, the difference and p are by a person's labels (`bures.results.labelled`).
    """

    a: Measurement
    b: Measurement
    difference: Measurement
    nearly: tuple[float, float]
    only_a: int
    only_b: int
    p: float
    labels: tuple[int, int] | None = None

    def is_within(self, margin: float) -> bool:
        """Whether the two are shown to differ by less than a margin, at the level 0.05."""
        return -margin < self.nearly[0] and self.nearly[1] < margin


@dataclass(frozen=True)
class Costs:
    """What an intervention costs on the same harmless prompts, before (a) and after (b); bootstrap intervals.

    Attributes:
        a: of the first audit.
        b: of the second.
        change: b less a for a KL in nats, b over a for a perplexity ratio.
    """

    a: Measurement
    b: Measurement
    change: Measurement


@dataclass(frozen=True)
class Side:
    """A row of one audit: what it is, and where it intervenes (as `bures.results.schema.Row` has it)."""

    key: str
    label: str
    method: str
    sites: str
    blocks: tuple[int, ...]
    rank: int | None
    tokens: str | None

    @staticmethod
    def of(row: Row) -> Side:
        """The same of a row."""
        return Side(row.key, row.label, row.method, row.sites, tuple(row.blocks), row.rank, row.tokens)


@dataclass(frozen=True)
class PairedRow:
    """One row of two audits.

    Attributes:
        name: `none`, `strongest`, or the key that both have.
        a: the row of the baseline.
        b: the row of the other audit: of the same key, at blocks that may differ.
        headline: whether the finding speaks of it.
        asr: share of harmful test prompts answered.
        over_refusal: share of harmless test prompts refused; None where those differ.
        kl: mean token KL along the model's own harmless answers, in nats; None for `none` and where prompts differ.
        perplexity_ratio: the same of perplexity over that without intervention.
        asr_p: McNemar's p of the ASR, adjusted.
        over_refusal_p: the same of over-refusal.
    """

    name: str
    a: Side
    b: Side
    headline: bool
    asr: Shares
    over_refusal: Shares | None
    kl: Costs | None
    perplexity_ratio: Costs | None
    asr_p: float = 1.0
    over_refusal_p: float | None = None


def paired_rows(a: Run, b: Run, judge: str, budget: float | None) -> Iterator[PairedRow]:
    """The headline's two, then the other rows that both have.

    Raises:
        ConfigError: one has no row `none`.
        RunError: the marks of a row are missing, damaged or of other prompts, or labels were asked for and a row of the
            headline has none.
    """
    yield _paired(NONE, a, row_named(a, NONE), b, row_named(b, NONE), judge)
    best = strongest_of_all([a, b], budget)
    if best is not None:
        yield _paired(STRONGEST, a, row_named(a, best), b, row_named(b, best), judge)
    other = {row.key: row for row in b.result.rows if row.error is None}
    for row in a.result.rows:
        if row.key in (NONE, best) or row.error is not None or row.key not in other:
            continue
        if a.labels is None or both_labelled(a, row, b, other[row.key]):
            yield _paired(row.key, a, row, b, other[row.key], judge)


def _paired(name: str, a: Run, row_a: Row, b: Run, row_b: Row, judge: str) -> PairedRow:
    same_harmless = set(hashes(a, "harmless")) == set(hashes(b, "harmless"))
    moves = name != NONE
    for run, row in ((a, row_a), (b, row_b)):
        if run.labels is not None:
            required_labels(run, row, run.labels.labeller)
    return PairedRow(
        name=name,
        a=Side.of(row_a),
        b=Side.of(row_b),
        headline=name in (NONE, STRONGEST),
        asr=paired_shares(a, row_a, b, row_b, judge, "harmful"),
        over_refusal=paired_shares(a, row_a, b, row_b, judge, "harmless") if same_harmless else None,
        kl=paired_kl(a, row_a, b, row_b) if moves else None,
        perplexity_ratio=paired_perplexity_ratio(a, row_a, b, row_b) if moves else None,
    )


def adjusted(pairs: Sequence[Sequence[PairedRow]]) -> list[list[PairedRow]]:
    """The rows of all pairs with Holm's p values: one family for the headlines, one for the rest, per measure."""
    found = [list(rows) for rows in pairs]

    def adjust(headline: bool, shares: Callable[[PairedRow], Shares | None], field: str) -> None:
        family = [
            (i, j, measured.p)
            for i, rows in enumerate(found)
            for j, row in enumerate(rows)
            if row.headline == headline and (measured := shares(row)) is not None
        ]
        for (i, j, _), p in zip(family, holm([p for *_, p in family]), strict=True):
            found[i][j] = replace(found[i][j], **{field: p})

    for headline in (True, False):
        adjust(headline, lambda row: row.asr, "asr_p")
        adjust(headline, lambda row: row.over_refusal, "over_refusal_p")
    return found


def paired_shares(a: Run, row_a: Row, b: Run, row_b: Row, judge: str, which: Which) -> Shares:
    """ASR (harmful prompts) or over-refusal (harmless ones) of two rows, prompt by prompt.

    The ASR is by labels where both audits were read with labels and both rows have some.

    Raises:
        RunError: the marks of a row are missing, damaged or of other prompts, or no prompt has a finished answer in
            both.
    """
    before, after = counted(a, row_a, judge, which), counted(b, row_b, judge, which)
    if set(hashes(a, which)) != set(hashes(b, which)):
        raise RunError(f"{a.folder} and {b.folder} did not ask the same {which} test prompts")
    both = before.keys() & after.keys()
    n = len(both)
    if not n:
        raise RunError(
            f"no {which} test prompt has a finished answer in row {row_a.key} of {a.folder} and in row {row_b.key} of "
            f"{b.folder}; audit again with a larger --max-new-tokens or --thinking-tokens"
        )
    only_a = sum(before[key] and not after[key] for key in both)
    only_b = sum(after[key] and not before[key] for key in both)
    found = Shares(
        proportion(sum(before[key] for key in both), n),
        proportion(sum(after[key] for key in both), n),
        paired_difference(only_a, only_b, n),
        paired_difference(only_a, only_b, n, 1 - 2 * LEVEL).bounds,
        only_a,
        only_b,
        mcnemar(only_a, only_b),
    )
    said = labelled_pair(a, row_a, b, row_b) if which == "harmful" else None
    if said is None:
        return found
    return replace(
        found, a=said.a, b=said.b, difference=said.difference, nearly=said.nearly, p=said.p, labels=said.labels
    )


def counted(run: Run, row: Row, judge: str, which: Which) -> Mapping[str, bool]:
    """What counts for ASR (answered) or for over-refusal (refused), by the hashes of the prompts with finished answers.

    Raises:
        RunError: the row has no marks of this judge, or not one a prompt.
    """
    counts = _marked(run, row, judge, which).items()
    return {key: mark == (which == "harmless") for key, mark in counts if mark is not None}


def share_counted(run: Run, row: Row, judge: str, which: Which) -> Measurement:
    """ASR or over-refusal of a row, with an interval wide enough for unfinished answers on either side.

    Raises:
        RunError: the row has no marks of this judge, or not one a prompt, or no answer is finished.
    """
    found = (attack_success if which == "harmful" else refusals)([*_marked(run, row, judge, which).values()])
    if found.share is None:
        raise RunError(
            f"no answer to a {which} test prompt is finished in row {row.key} of {run.folder}: nothing can be said of "
            "it; audit again with a larger --max-new-tokens or --thinking-tokens"
        )
    return found.share


def unfinished(run: Run, row: Row, judge: str) -> int:
    """How many harmful test prompts have no finished answer in a row.

    Raises:
        RunError: the row has no marks of this judge, or not one a prompt.
    """
    return sum(mark is None for mark in _marked(run, row, judge, "harmful").values())


def _marked(run: Run, row: Row, judge: str, which: Which) -> dict[str, Mark]:
    marks = (row.refused if which == "harmful" else row.refused_harmless).get(judge)
    asked = hashes(run, which)
    if marks is None or len(marks) != len(asked) or len(set(asked)) != len(asked) or not asked:
        raise RunError(
            f"row {row.key} of {run.folder} does not hold one mark of judge {judge!r} for each of {len(asked)} {which} "
            "test prompts; its results.json is damaged: run the audit again"
        )
    return dict(zip(asked, marks_of(marks), strict=True))


def paired_kl(a: Run, row_a: Row, b: Run, row_b: Row) -> Costs | None:
    """Mean token KL of two rows, each along its own model's answers; None where the harmless prompts differ."""
    sides = [_per_prompt(run, row, row.kl_each) for run, row in ((a, row_a), (b, row_b))]
    return _costs(a, b, sides, logs=False)


def paired_perplexity_ratio(a: Run, row_a: Row, b: Run, row_b: Row) -> Costs | None:
    """Perplexity over that without intervention, each along its own model's answers; None as for KL."""
    sides = []
    for run, row in ((a, row_a), (b, row_b)):
        own = {each.key: each for each in run.result.rows}.get(NONE)
        if own is None or len(own.nll_each) != len(row.nll_each):
            return None
        sides.append(_per_prompt(run, row, [x - y for x, y in zip(row.nll_each, own.nll_each, strict=True)]))
    return _costs(a, b, sides, logs=True)


class _PerPrompt(NamedTuple):
    """Sums over the tokens of an answer and numbers of its tokens, prompt by prompt in the order of their hashes."""

    sums: list[float]
    tokens: list[float]


def _per_prompt(run: Run, row: Row, each: Sequence[float]) -> _PerPrompt | None:
    """Of means over the tokens of every answer; None where the results do not hold one a prompt."""
    asked, counts = hashes(run, "harmless"), run.result.answer_tokens
    if not (len(asked) == len(counts) == len(each)) or not asked:
        return None
    order = sorted(range(len(asked)), key=lambda i: asked[i])
    return _PerPrompt([each[i] * counts[i] for i in order], [float(counts[i]) for i in order])


def _costs(a: Run, b: Run, sides: Sequence[_PerPrompt | None], *, logs: bool) -> Costs | None:
    before, after = sides
    if before is None or after is None or set(hashes(a, "harmless")) != set(hashes(b, "harmless")):
        return None
    each = (bootstrap_ratio_of_sums(*side, skewed=not logs) for side in (before, after))
    found = (*each, bootstrap_difference(before, after))
    return Costs(*(map(exponential, found) if logs else found))
