"""One audit against the baseline: how far apart their rows are, and what interventions cost in both."""

from __future__ import annotations

from bures.report.kit.forest import KEYS, PLAIN, Mark, forest
from bures.report.kit.page import Block, Cell, Choice, Figure, Grid, Items, Legend, Section, Table
from bures.report.kit.text import named
from bures.report.sections.breakdown import p_value
from bures.report.words import judge_error, judge_words, prompts, share, tip, with_rank
from bures.results.comparison import Compared, Pair
from bures.results.names import NONE, STRONGEST
from bures.results.paired_differences import LEVEL, Costs, Line, Shares, Side, adjusted_p, points


def pair_sections(found: Compared, pair: Pair, i: int, *, one: bool) -> list[Section]:
    about = "" if one else f": {named(pair.b)}"
    blocks: list[Block] = [
        (
            f"Every row is one change of the model's activations, sought anew in each model, on the same "
            f"{prompts(found.n_harmful, 'harmful')}. “Strongest” is the one that came furthest on each audit's "
            "selection prompts within the perplexity budget; it may be another method in each."
        )
    ]
    if not one:
        blocks.insert(0, pair.verdict)
    blocks += [_differences(found, pair, i), _table(pair, found.judge)]
    if pair.notes:
        blocks.append(Items(tuple(named(note, 600) for note in pair.notes)))
    sections = [Section(f"differences-{i}", f"How far apart{about}", tuple(blocks))]
    costs = [each for each in (_cost_figure(pair, i, "kl"), _cost_figure(pair, i, "ratio")) if each is not None]
    if costs:
        words = (
            "What an intervention costs on harmless prompts, along each model's own answers. A defence that works by "
            "making interventions dearer shows here."
        )
        sections.append(Section(f"costs-{i}", f"What interventions cost{about}", (words, Grid(tuple(costs)))))
    return sections


def _differences(found: Compared, pair: Pair, i: int) -> Figure:
    marks = [mark for j, line in enumerate(pair.lines, 1) for mark in _marks(line, j, found.judge)]
    both = any(line.over_refusal is not None for line in pair.lines)
    choices = (("asr", "answers to harmful prompts (ASR)"), ("over", "refusals of harmless prompts (over-refusal)"))
    told = "; ".join(f"{_title(line)}: {points(line.asr)}" for line in pair.lines)
    return Figure(
        f"forest-{i}",
        f"{named(pair.b)} less {named(pair.a)}, in points",
        forest(marks, "difference, points", nothing=0.0, measure="asr"),
        f"For every row the difference in ASR as a dot with its 95% interval. {told}.",
        None,
        f"Lines are Tango's 95% intervals of the paired difference, by {judge_words(found.judge)}. “May be chance”: "
        f"McNemar's exact p, adjusted by Holm's method, is not below {LEVEL:g}. The first two rows are the verdict's "
        "and were named in advance; they are adjusted apart from the others. Intervals are not adjusted.",
        Legend("shown", KEYS),
        (Choice("measure", "Difference in", choices),) if both else (),
    )


def _marks(line: Line, number: int, judge: str) -> list[Mark]:
    row = _row_label(line, number)
    found = [_mark(row, line, line.asr, line.asr_p, "asr", judge)]
    if line.over_refusal is not None and line.over_refusal_p is not None:
        found.append(_mark(row, line, line.over_refusal, line.over_refusal_p, "over", judge))
    return found


def _mark(row: str, line: Line, shares: Shares, p: float, measure: str, judge: str) -> Mark:
    low, high = shares.difference.bounds
    refuses_more = (shares.difference.value < 0) == (measure == "asr")
    what = "ASR" if measure == "asr" else "over-refusal"
    return Mark(
        row=row,
        series="chance" if p >= LEVEL else "more" if refuses_more else "less",
        value=100 * shares.difference.value,
        interval=(100 * low, 100 * high),
        tip=tip(
            _title(line),
            f"{what} {share(shares.a)} → {share(shares.b)}",
            points(shares),
            f"{adjusted_p(p)}, n = {shares.a.n}, judge '{named(judge, 40)}'",
        ),
        measure=measure,
    )


def _cost_figure(pair: Pair, i: int, which: str) -> Figure | None:
    marks: list[Mark] = []
    for j, line in enumerate(pair.lines, 1):
        costs = line.kl if which == "kl" else line.perplexity_ratio
        if costs is not None:
            marks.append(_cost_mark(_row_label(line, j), line, costs, which))
    if not marks:
        return None
    title = "KL, difference in nats" if which == "kl" else "perplexity ratio, one over the other"
    told = "; ".join(mark.tip.replace("\n", ", ") for mark in marks)
    return Figure(
        f"{which}-{i}",
        "Change of the KL" if which == "kl" else "Change of the perplexity ratio",
        forest(marks, title, nothing=0.0 if which == "kl" else 1.0),
        f"For every intervention a dot with its 95% interval. {told}.",
        None,
        f"Right of the line: dearer in {named(pair.b)}. Bootstrap over the same prompts.",
    )


def _cost_mark(row: str, line: Line, costs: Costs, which: str) -> Mark:
    sign, digits = ("", 3) if which == "kl" else ("× ", 2)
    form, change = f"{'+' if which == 'kl' else ''}.{digits}f", costs.change
    value, low, high = (format(x, form) for x in (change.value, *change.bounds))
    return Mark(
        row=row,
        series=PLAIN.value,
        value=costs.change.value,
        interval=costs.change.bounds,
        tip=tip(
            _title(line),
            f"{sign}{costs.a.value:.{digits}f} → {sign}{costs.b.value:.{digits}f}",
            f"{sign}{value} [{low}, {high}], n = {costs.change.n}",
        ),
    )


def _table(pair: Pair, judge: str) -> Table:
    header = ("#", "row", "block A", "block B", "ASR % A", "ASR % B", "B − A, points [95%]", "p", "adjusted p")
    more = ("over-refusal B − A", "KL A", "KL B", "KL B − A", "× A", "× B", "× B / A")
    rows = tuple(tuple(_cells(line, i)) for i, line in enumerate(pair.lines, 1))
    used = [j for j in range(len(header) + len(more)) if j < len(header) or any(row[j] != "-" for row in rows)]
    names = (*header, *more)
    caption = (
        f"A: {named(pair.a)}. B: {named(pair.b)}. KL in nats; ×: perplexity over that without intervention; p: "
        f"McNemar's exact test. {judge_error(judge)}"
    )
    return Table(tuple(names[j] for j in used), tuple(tuple(row[j] for j in used) for row in rows), caption)


def _cells(line: Line, number: int) -> list[str | Cell]:
    asr, over = line.asr, line.over_refusal
    adjusted = p_value(line.asr_p)
    tone = "" if line.asr_p >= LEVEL else "good" if asr.difference.value < 0 else "bad"
    return [
        str(number),
        _name(line),
        named(line.a.sites, 40),
        named(line.b.sites, 40),
        f"{100 * asr.a.value:.1f}",
        f"{100 * asr.b.value:.1f}",
        Cell(_points(asr), sort=asr.difference.value, tone=tone),
        Cell(p_value(asr.p), sort=asr.p),
        Cell(adjusted, sort=line.asr_p),
        "-" if over is None else Cell(_points(over), sort=over.difference.value),
        *_cost_cells(line.kl, 3, "+.3f"),
        *_cost_cells(line.perplexity_ratio, 2, ".2f"),
    ]


def _points(shares: Shares) -> str:
    value, low, high = (100 * x for x in (shares.difference.value, *shares.difference.bounds))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _cost_cells(costs: Costs | None, digits: int, form: str) -> list[str | Cell]:
    if costs is None:
        return ["-", "-", "-"]
    value, low, high = (costs.change.value, *costs.change.bounds)
    change = f"{value:{form}} [{low:{form}}, {high:{form}}]"
    return [f"{costs.a.value:.{digits}f}", f"{costs.b.value:.{digits}f}", Cell(change, sort=value)]


# Names ----------------------------------------------------------------------------------------------------------------


def side_name(side: Side) -> str:
    """`PCA-OT K=2`."""
    return with_rank(named(side.label, 40), side.rank)


def _name(line: Line) -> str:
    if line.name == NONE:
        return "no intervention"
    both = side_name(line.a) if side_name(line.a) == side_name(line.b) else f"{side_name(line.a)} → {side_name(line.b)}"
    return f"strongest: {both}" if line.name == STRONGEST else both


def _place(line: Line) -> str:
    if line.name == NONE:
        return ""
    a, b = _where(line.a), _where(line.b)
    return a if a == b else f"{a} → {b}"


def _where(side: Side) -> str:
    """`block 21`, `blocks 20+21`, `all blocks`."""
    sites = named(side.sites, 40)
    if sites.isdigit():
        return f"block {sites}"
    return "all blocks" if sites == "all" else f"blocks {sites}" if sites.replace("+", "").isdigit() else sites


def _title(line: Line) -> str:
    place = _place(line)
    return f"{_name(line)}, {place}" if place else _name(line)


def _row_label(line: Line, number: int) -> str:
    """Two lines; the number keeps apart what is alike."""
    return tip(f"{number}  {_name(line)}", _place(line))
