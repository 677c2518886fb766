"""How comparisons, gates and histories look in a terminal; names are printed as text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType

from bures.cli.fitted import Column, Fitted, columns, words
from bures.judges.known_error import sentence
from bures.results.care import of_series
from bures.results.comparison import Compared, Pair
from bures.results.formatting import estimate, number, p_value, percent, points, share
from bures.results.gate import Gated
from bures.results.history import Followed, History, Point, Series
from bures.results.names import NONE, STRONGEST
from bures.results.paired_differences import PairedRow
from bures.results.plan import Plan
from bures.results.stats import Measurement

_BARS = "▁▂▃▄▅▆▇█"


def compare_table(found: Compared) -> RenderableType:
    """One finding and one table a pair, and under them what one needs to read them."""
    parts: list[RenderableType] = []
    for pair in found.pairs:
        parts += [words(pair.finding, style="bold"), words(*pair.cautions, "")]
        parts += [_pair_table(pair), words(*pair.notes, "")]
    return Group(*parts, words(*_compare_legend(found)))


def _pair_table(pair: Pair) -> Fitted:
    names = ("row", "block", "ASR A %", "ASR B %", "B - A [95 %]", "p", "p (Holm)")
    costs = ("over-refusal B - A", "KL B - A", "ppl ratio B / A")
    spare = ("ppl ratio B / A", "over-refusal B - A", "p", "KL B - A")
    table = Fitted(
        f"A: {pair.a}   B: {pair.b}", columns(*names, *costs, left=("row",), wraps=("row", "block"), spare=spare)
    )
    for row in pair.rows:
        table.add(_paired_cells(row), style="bold" if row.headline else None)
    return table


def _paired_cells(row: PairedRow) -> list[str]:
    named = row.a.key if row.a.key == row.b.key else f"{row.a.key} / {row.b.key}"
    asr, over, kl, ratio = row.asr, row.over_refusal, row.kl, row.perplexity_ratio
    return [
        f"{row.name}: {named}" if row.name == STRONGEST else named,
        row.a.sites if row.a.sites == row.b.sites else f"{row.a.sites} | {row.b.sites}",
        percent(asr.a.value, unit=""),
        percent(asr.b.value, unit=""),
        points(asr.difference, unit=""),
        p_value(asr.p),
        p_value(row.asr_p),
        points(None if over is None else over.difference, unit=""),
        estimate(None if kl is None else kl.change, 3, signed=True),
        estimate(None if ratio is None else ratio.change),
    ]


def _compare_legend(found: Compared) -> list[str]:
    where = [f"{audit.label}: {audit.sentence}" for audit in found.audits if audit.sentence]
    return [
        (
            f"ASR: share of {found.n_harmful} harmful test prompts answered, judge '{found.judge}'; over-refusal: "
            f"share of {found.n_harmless} harmless ones refused; differences in points on the same prompts, with "
            "Tango's interval and McNemar's p."
        ),
        *([found.by_labels] if found.by_labels else []),
        sentence(found.judge),
        (
            "KL and perplexity ratio: along each model's own harmless answers, over no intervention; bootstrap over "
            "the same prompts."
        ),
        (
            "Strongest: the one row of both with the highest ASR on their selection splits together, within the "
            "perplexity budget of each; it may be at other blocks. p (Holm): adjusted over 'none' and 'strongest' of "
            "all pairs, and apart over all others. "
            "Intervals are not adjusted."
        ),
        *where,
    ]


MARKS = {"pass": "pass", "above": "FAIL", "undecided": "UNDECIDED"}
"""How a check ended, in tables."""


def gate_table(found: Gated) -> RenderableType:
    """One row a check, and the finding."""
    against = "" if found.against is None else f", against {found.against}"
    names = ("", "check", "measured [95 %]", "why")
    table = Fitted(f"{found.model}: gate, judge '{found.judge}'{against}", columns(*names, left=names, wraps=names[1:]))
    for check in found.checks:
        cells = [MARKS[check.outcome], check.title, check.figure, check.reason]
        table.add(cells, style=None if check.passed else "red")
    return Group(words(found.finding, style="bold"), table, words(found.effort, *found.notes))


def history_table(found: History) -> RenderableType:
    """What changed, and one table with lines of small bars, a series."""
    parts: list[RenderableType] = []
    for number_, series in enumerate(found.series, start=1):
        title = (
            f"Series {number_} of {len(found.series)}: {series.n_harmful} harmful prompts ({series.prompts}), judge "
            f"'{series.judge}', {series.max_new_tokens} tokens"
        )
        told = of_series((point.model for point in series.points), series.n_harmful, series.max_new_tokens)
        parts += [words(*series.sentences, style="bold"), words(*told, "")]
        parts += [_series_table(series, found.rows, title), words(*_series_words(series, found.rows)), words("")]
    if len(found.series) > 1:
        parts.append(words("Series differ in prompts, judge, system prompt, length or shape: they cannot be compared."))
    judges = dict.fromkeys(series.judge for series in found.series)
    return Group(
        *parts, words(*map(sentence, judges), *found.labels, *(f"Left out: {reason}" for reason in found.left_out))
    )


def _series_table(series: Series, rows: Sequence[str], title: str) -> Fitted:
    shown = [
        Column("finished (UTC)", left=True),
        Column("model", left=True, wraps=True),
        Column("weights", 5, left=True),
    ]
    for name in rows:
        shown.append(Column(f"ASR % {name} [95 %]", wraps=True))
        shown += [] if name == NONE else [Column("by", 1, left=True, wraps=True), Column("x")]
    labelled = series.labelled
    shown += [Column(f"by labels % {name} [95 %]", wraps=True) for name in labelled]
    shown += [Column("over-refusal %", 2), Column("ppl", 4), Column("decided at", 3)]
    table = Fitted(title, shown)
    for point in series.points:
        table.add(_point_cells(point, rows, labelled))
    return table


def _point_cells(point: Point, rows: Sequence[str], labelled: Sequence[str]) -> list[str]:
    there = {row.name: row for row in point.rows}
    cells = [f"{point.time[:16].replace('T', ' ')}{'*' * point.time_of_file}", point.label, point.fingerprint[:8]]
    for name in rows:
        cells += _followed_cells(there.get(name), short=name == NONE)
    cells += [share(there[name].labelled if name in there else None, unit="") for name in labelled]
    own = there.get(NONE)
    return [
        *cells,
        percent(None if own is None else own.over_refusal.value, unit=""),
        number(point.perplexity),
        "-" if point.decided is None else f"{point.decided.first}-{point.decided.last} of {point.n_blocks}",
    ]


def _followed_cells(row: Followed | None, *, short: bool) -> list[str]:
    if row is None:
        return ["-"] if short else ["-", "-", "-"]
    asr = share(row.asr, unit="")
    return [asr] if short else [asr, f"{row.label} at {row.sites}", number(row.perplexity_ratio)]


def _series_words(series: Series, rows: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for name in rows:
        shares = [next((row.asr for row in point.rows if row.name == name), None) for point in series.points]
        if sum(share is not None for share in shares) > 1:
            lines.append(f"ASR {name:<9} {sparkline(shares)}  (0 to 100 %)")
    lines += [f"{point.time[:16].replace('T', ' ')}: {note}" for point in series.points for note in point.changed]
    if any(point.time_of_file for point in series.points):
        lines.append("*: time of the file; the results do not say when the audit ended.")
    return lines


def sparkline(shares: Sequence[Measurement | None]) -> str:
    """One bar a share, from 0 to 1; a gap where there is none."""
    return "".join(" " if s is None else _BARS[min(len(_BARS) - 1, int(s.value * len(_BARS)))] for s in shares)


def plan_lines(found: Plan) -> RenderableType:
    """What each limit takes, a sentence each."""
    rows = "" if found.rows == 1 else f"All of {found.rows} rows pass together as often as asked for."
    choice = [] if found.choice is None else [found.choice.sentence]
    return words(*(each.sentence for each in found.limits), *([rows] if rows else []), *choice)
