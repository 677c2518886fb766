"""One series of a history: its charts over time, and the table of its audits."""

from __future__ import annotations

from collections.abc import Sequence

from bures.report.kit.charts import STYLES, Style
from bures.report.kit.page import Block, Cell, Figure, Grid, Items, Section, Table
from bures.report.kit.text import named
from bures.report.kit.timelines import Curve, Dot, Timeline, timeline
from bures.report.sections.profile import depth
from bures.report.words import block_range, judge_error, judge_words, padded, prompts, tip
from bures.results.formatting import brief, number, share
from bures.results.history import Followed, History, Point, Series
from bures.results.names import NONE, STRONGEST
from bures.results.stats import Measurement


def series_section(found: History, series: Series, i: int, *, one: bool) -> Section:
    """Charts, what else changed, and the table; `one`: whether the history has only this series."""
    asked = (
        f"{prompts(series.n_harmful, 'harmful')} (set {series.prompts}), {prompts(series.n_harmless, 'harmless')}, "
        f"{judge_words(series.judge)}, at most {series.max_new_tokens} tokens an answer."
    )
    costs = [each for each in (_ratio_figure(series, i), _perplexity_figure(series, i)) if each is not None]
    depths = _depth_figure(series, i)
    blocks: list[Block] = [asked, *((" ".join(series.sentences),) if series.sentences and not one else ())]
    blocks.append(_asr_figure(series, i))
    blocks += [depths] if depths is not None else []
    blocks += [Grid(tuple(costs))] if costs else []
    changed = tuple(f"{when(point)}: {named(note, 600)}" for point in series.points for note in point.changed)
    if changed:
        blocks += ["What else changed, besides the model:", Items(changed)]
    blocks.append(_table(found, series))
    kind = f"prompts {series.prompts}, {judge_words(series.judge)}, {series.max_new_tokens} tokens"
    title = "Over time" if one else f"Group {i}: {kind}"
    return Section(f"series-{i}", title, tuple(blocks))


def row_name(name: str) -> str:
    """What a row that is followed is called in a sentence."""
    known = {NONE: "without intervention", STRONGEST: "under the strongest intervention"}
    return known.get(name, f"under {named(name, 60)}")


def when(point: Point) -> str:
    """To the minute; * where only the file tells."""
    return point.time[:16].replace("T", " ") + "*" * point.time_of_file


# Figures ----------------------------------------------------------------------------------------------------------


def _style(position: int, name: str) -> Style:
    return STYLES[1] if name == NONE else STYLES[0] if name == STRONGEST else STYLES[2 + position % (len(STYLES) - 2)]


def _curves(series: Series) -> list[Curve]:
    """One of each row that is followed."""
    names = list(dict.fromkeys(row.name for point in series.points for row in point.rows))
    return [Curve(name, row_name(name), _style(i, name)) for i, name in enumerate(names)]


def _asr_figure(series: Series, i: int) -> Figure:
    dots = [
        _asr_dot(point, row, row.name, row.asr, f"n = {row.asr.n}, judge '{named(series.judge, 40)}'")
        for point in series.points
        for row in point.rows
    ]
    by_labels = [
        _asr_dot(point, row, _by_labels(row.name), row.labelled, f"by {row.labels} labels")
        for point in series.points
        for row in point.rows
        if row.labelled is not None
    ]
    names = list(dict.fromkeys(dot.curve for dot in by_labels))
    curves = _curves(series)
    for curve in tuple(curves):
        if _by_labels(curve.name) in names:
            style = Style(curve.style.colour, "diamond")
            curves.append(Curve(_by_labels(curve.name), f"{curve.label}, by labels", style))
    note = f"Bars are 95% intervals over prompts, by {judge_words(series.judge)}. Lower is safer."
    if by_labels:
        note += " Dots that are not joined are by a person's labels: their intervals hold whatever the judge's error."
    drawn = (*dots, *by_labels)
    shown = Timeline(f"asr-{i}", "ASR over time", curves, drawn, "ASR, %", note, domain=(0.0, 100.0), apart=names)
    return timeline(shown)


def _by_labels(name: str) -> str:
    """Name of the curve of a row by labels."""
    return f"{name}:labels"


def _asr_dot(point: Point, row: Followed, curve: str, asr: Measurement, by: str) -> Dot:
    between = None if asr.interval is None else (100 * asr.interval[0], 100 * asr.interval[1])
    return Dot(curve, point.time, 100 * asr.value, between, tip(_head(point), _under(row), f"ASR {brief(asr)}, {by}"))


def _ratio_figure(series: Series, i: int) -> Figure | None:
    dots = [
        Dot(
            row.name,
            point.time,
            row.perplexity_ratio,
            None,
            tip(_head(point), _under(row), f"× {number(row.perplexity_ratio)}"),
        )
        for point in series.points
        for row in point.rows
        if row.name != NONE and row.perplexity_ratio is not None
    ]
    if not dots:
        return None
    curves = [curve for curve in _curves(series) if curve.name != NONE]
    note = "Perplexity under the intervention over that without, along the model's own harmless answers."
    domain = padded([dot.value for dot in dots] + [0.98, 1.1])
    title = "What the intervention costs"
    return timeline(Timeline(f"ratio-{i}", title, curves, dots, "perplexity ×", note, domain))


def _perplexity_figure(series: Series, i: int) -> Figure | None:
    """Of plain text; where no audit measured that, of the model's own harmless answers."""
    text = any(point.corpus_perplexity is not None for point in series.points)
    label = "plain text" if text else "own harmless answers"
    dots = [
        Dot("perplexity", point.time, m.value, m.interval, tip(_head(point), f"{label}: {number(m)}"))
        for point in series.points
        if (m := point.corpus_perplexity if text else point.perplexity) is not None
    ]
    if not dots:
        return None
    note = (
        f"Of {label}, without intervention; bars are 95% intervals. Models with other tokenizers cannot be compared by "
        "it."
    )
    title, curve = "Perplexity of the model as it is", Curve("perplexity", label, STYLES[1])
    return timeline(Timeline(f"perplexity-{i}", title, [curve], dots, "perplexity", note))


def _depth_figure(series: Series, i: int) -> Figure | None:
    dots = [
        Dot(row.name, point.time, depth(block, point.n_blocks), None, tip(_head(point), _under(row)))
        for point in series.points
        if point.n_blocks is not None
        for row in point.rows
        for block in row.blocks
        if row.sites != "all"
    ]
    ranges = [
        Dot("range", point.time, interval[0], interval, tip(_head(point), f"decided at {_where(point)}"))
        for point in series.points
        if (interval := _decided(point)) is not None
    ]
    if not dots and not ranges:
        return None
    drawn = Timeline(
        f"depth-{i}",
        "Blocks that were chosen, and where refusal is decided",
        [curve for curve in _curves(series) if any(dot.curve == curve.name for dot in dots)],
        dots,
        "depth, %",
        "Depth of a block's output. Interventions on all blocks are not drawn.",
        domain=(0.0, 100.0),
        ranges=ranges,
        joined=False,
    )
    return timeline(drawn)


def _decided(point: Point) -> tuple[float, float] | None:
    if point.decided is None or point.n_blocks is None:
        return None
    half = 50 / point.n_blocks
    return depth(point.decided.first, point.n_blocks) - half, depth(point.decided.last, point.n_blocks) + half


# Table ------------------------------------------------------------------------------------------------------------


def _table(found: History, series: Series) -> Table:
    header = ["finished (UTC)", "model", "weights"]
    for name in found.rows:
        header += [f"ASR % {named(name, 30)} [95%]", *(() if name == NONE else ("by", "×"))]
    labelled = series.labelled
    header += [f"by labels % {named(name, 30)} [95%]" for name in labelled]
    header += ["over-refusal %", "perplexity", "plain text", "decided at", "folder"]
    caption = f"Every audit, by time. {judge_error(series.judge)}"
    if labelled:
        caption = f"{caption} {named(' '.join(found.labels), 600)}"
    return Table(tuple(header), tuple(_cells(found, point, labelled) for point in series.points), caption)


def _cells(found: History, point: Point, labelled: Sequence[str]) -> tuple[str | Cell, ...]:
    there = {row.name: row for row in point.rows}
    cells: list[str | Cell] = [when(point), named(point.label), Cell(named(point.fingerprint[:12], 12), tone="code")]
    for name in found.rows:
        row = there.get(name)
        cells.append("-" if row is None else share(row.asr, unit=""))
        if name != NONE:
            cells += ["-", "-"] if row is None else [_under(row), number(row.perplexity_ratio)]
    cells += [share(there[name].labelled if name in there else None, unit="") for name in labelled]
    own = there.get(NONE)
    return (
        *cells,
        share(None if own is None else own.over_refusal, unit=""),
        number(point.perplexity),
        number(point.corpus_perplexity),
        _where(point),
        named(point.folder, 200),
    )


def _where(point: Point) -> str:
    return "-" if point.decided is None or point.n_blocks is None else block_range(point.decided, point.n_blocks)


def _under(row: Followed) -> str:
    if row.name == NONE:
        return "no intervention"
    sites = named(row.sites, 40)
    where = f"block {sites}" if sites.isdigit() else "all blocks" if sites == "all" else sites
    return f"{named(row.label, 40)} at {where}"


def _head(point: Point) -> str:
    return f"{when(point)}  {named(point.label, 60)}"
