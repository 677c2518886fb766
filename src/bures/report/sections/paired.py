"""One audit against the baseline: how far apart their rows are, and what interventions cost in both."""

from __future__ import annotations

from bures.report.kit.forest import KEYS, PLAIN, Dot, forest
from bures.report.kit.page import Block, Cell, Choice, Figure, Grid, Items, Legend, Section, Table
from bures.report.kit.text import named
from bures.report.words import judge_error, judge_words, prompts, tip, with_rank
from bures.results.comparison import Compared, Pair
from bures.results.formatting import brief, estimate, number, p_equals, p_value, percent, points
from bures.results.inference import LEVEL
from bures.results.names import NONE, STRONGEST
from bures.results.paired_differences import Costs, PairedRow, Shares, Side


def pair_sections(found: Compared, pair: Pair, i: int, *, one: bool) -> list[Section]:
    about = "" if one else f": {named(pair.b)}"
    blocks: list[Block] = [
        (
            f"Every row is one change of the model's activations, sought anew in each model, on the same "
            f"{prompts(found.n_harmful, 'harmful')}. “Strongest” is the one row of both that came furthest on the "
            "selection prompts of both audits together, within the perplexity budget of each."
        )
    ]
    if not one:
        blocks.insert(0, pair.finding)
    blocks += [_differences(found, pair, i), _table(pair, found)]
    if pair.notes:
        blocks.append(Items(tuple(named(note, 600) for note in pair.notes)))
    sections = [Section(f"differences-{i}", f"How far apart{about}", tuple(blocks))]
    costs = [each for each in (_cost_figure(pair, i, "kl"), _cost_figure(pair, i, "ratio")) if each is not None]
    if costs:
        words = (
            "What an intervention costs on harmless prompts, along each model's own answers. A defence that works by "
            "making interventions dearer shows here."
        )
        blocks = [words, Grid(tuple(costs)), _cost_table(pair)]
        sections.append(Section(f"costs-{i}", f"What interventions cost{about}", tuple(blocks)))
    return sections


def _differences(found: Compared, pair: Pair, i: int) -> Figure:
    dots = [dot for j, row in enumerate(pair.rows, 1) for dot in _dots(row, j, found.judge)]
    both = any(row.over_refusal is not None for row in pair.rows)
    choices = (("asr", "answers to harmful prompts (ASR)"), ("over", "refusals of harmless prompts (over-refusal)"))
    told = "; ".join(f"{_title(row)}: {points(row.asr.difference)}" for row in pair.rows)
    return Figure(
        f"forest-{i}",
        f"{named(pair.b)} minus {named(pair.a)}, in points",
        forest(dots, "difference, points", nothing=0.0, measure="asr"),
        f"For every row the difference in ASR as a dot with its 95% interval. {told}.",
        None,
        f"Lines are 95% intervals of the paired difference, {_by(found)}. “May be chance”: the p value, adjusted by "
        f"Holm's method, is not below {LEVEL:g}. The first two rows are the finding's and were named in advance; they "
        "are adjusted apart from the others. Intervals are not adjusted.",
        Legend("shown", KEYS),
        (Choice("measure", "Difference in", choices),) if both else (),
    )


def _by(found: Compared) -> str:
    """Whose intervals they are."""
    tango = f"Tango's by {judge_words(found.judge)}"
    return f"of the ASR by a person's labels, of over-refusal {tango}" if found.by_labels else tango


def _dots(row: PairedRow, i: int, judge: str) -> list[Dot]:
    label, title = _row_label(row, i), _title(row)
    found = [_dot(label, title, row.asr, row.asr_p, "asr", judge)]
    if row.over_refusal is not None and row.over_refusal_p is not None:
        found.append(_dot(label, title, row.over_refusal, row.over_refusal_p, "over", judge))
    return found


def _dot(label: str, title: str, shares: Shares, p: float, measure: str, judge: str) -> Dot:
    low, high = shares.difference.bounds
    refuses_more = (shares.difference.value < 0) == (measure == "asr")
    what = "ASR" if measure == "asr" else "over-refusal"
    return Dot(
        row=label,
        series="chance" if p >= LEVEL else "more" if refuses_more else "less",
        value=100 * shares.difference.value,
        interval=(100 * low, 100 * high),
        tip=tip(
            title,
            f"{what} {brief(shares.a)} → {brief(shares.b)}",
            points(shares.difference),
            f"{p_equals(p, 'adjusted p')}, n = {shares.a.n}, {_counted_by(shares, judge)}",
        ),
        measure=measure,
    )


def _counted_by(shares: Shares, judge: str) -> str:
    return (
        f"judge '{named(judge, 40)}'" if shares.labels is None else f"labels {shares.labels[0]} and {shares.labels[1]}"
    )


def _cost_figure(pair: Pair, i: int, which: str) -> Figure | None:
    dots: list[Dot] = []
    for j, row in enumerate(pair.rows, 1):
        costs = row.kl if which == "kl" else row.perplexity_ratio
        if costs is not None:
            dots.append(_cost_dot(_row_label(row, j), _title(row), costs, which))
    if not dots:
        return None
    title = "KL, difference in nats" if which == "kl" else "perplexity ratio, one over the other"
    told = "; ".join(dot.tip.replace("\n", ", ") for dot in dots)
    return Figure(
        f"{which}-{i}",
        "Change of the KL" if which == "kl" else "Change of the perplexity ratio",
        forest(dots, title, nothing=0.0 if which == "kl" else 1.0),
        f"For every intervention a dot with its 95% interval. {told}.",
        None,
        f"Right of the line: dearer in {named(pair.b)}. Bootstrap over the same prompts.",
    )


def _cost_dot(label: str, title: str, costs: Costs, which: str) -> Dot:
    sign, digits = ("", 3) if which == "kl" else ("× ", 2)
    return Dot(
        row=label,
        series=PLAIN.value,
        value=costs.change.value,
        interval=costs.change.bounds,
        tip=tip(
            title,
            f"{sign}{number(costs.a, digits)} → {sign}{number(costs.b, digits)}",
            f"{sign}{estimate(costs.change, digits, signed=which == 'kl')}, n = {costs.change.n}",
        ),
    )


def _table(pair: Pair, found: Compared) -> Table:
    header = ("#", "row", "block A", "block B", "ASR % A", "ASR % B", "B − A, points [95%]", "p", "adjusted p")
    tested = named(found.by_labels, 600) if found.by_labels else "p: McNemar's test."
    caption = f"A: {named(pair.a)}. B: {named(pair.b)}. {tested} {judge_error(found.judge)}"
    return _used(
        Table((*header, "over-refusal B − A"), tuple(_cells(*each) for each in enumerate(pair.rows, 1)), caption)
    )


def _cost_table(pair: Pair) -> Table:
    header = ("#", "row", "block A", "block B", "KL A", "KL B", "KL B − A", "× A", "× B", "× B / A")
    rows = [
        (
            *_cells(i, row)[:4],
            *_cost_cells(row.kl, 3, signed=True),
            *_cost_cells(row.perplexity_ratio, 2, signed=False),
        )
        for i, row in enumerate(pair.rows, 1)
        if row.kl is not None or row.perplexity_ratio is not None
    ]
    caption = f"A: {named(pair.a)}. B: {named(pair.b)}. KL in nats; ×: perplexity over that without intervention."
    return _used(Table(header, tuple(rows), caption))


def _used(table: Table) -> Table:
    """The table without further columns in which no row says anything."""
    used = [j for j in range(len(table.header)) if j < 4 or any(row[j] != "-" for row in table.rows)]
    rows = tuple(tuple(row[j] for j in used) for row in table.rows)
    return Table(tuple(table.header[j] for j in used), rows, table.caption)


def _cells(i: int, row: PairedRow) -> tuple[str | Cell, ...]:
    asr, over = row.asr, row.over_refusal
    tone = "" if row.asr_p >= LEVEL else "good" if asr.difference.value < 0 else "bad"
    return (
        str(i),
        _name(row),
        named(row.a.sites, 40),
        named(row.b.sites, 40),
        percent(asr.a.value, unit=""),
        percent(asr.b.value, unit=""),
        Cell(points(asr.difference, unit=""), sort=asr.difference.value, tone=tone),
        Cell(p_value(asr.p), sort=asr.p),
        Cell(p_value(row.asr_p), sort=row.asr_p),
        "-" if over is None else Cell(points(over.difference, unit=""), sort=over.difference.value),
    )


def _cost_cells(costs: Costs | None, digits: int, *, signed: bool) -> list[str | Cell]:
    if costs is None:
        return ["-", "-", "-"]
    change = Cell(estimate(costs.change, digits, signed=signed), sort=costs.change.value)
    return [number(costs.a, digits), number(costs.b, digits), change]


# Names ----------------------------------------------------------------------------------------------------------------


def side_name(side: Side) -> str:
    """`PCA-OT K=2`."""
    return with_rank(named(side.label, 40), side.rank)


def _name(row: PairedRow) -> str:
    if row.name == NONE:
        return "no intervention"
    both = side_name(row.a) if side_name(row.a) == side_name(row.b) else f"{side_name(row.a)} → {side_name(row.b)}"
    return f"strongest: {both}" if row.name == STRONGEST else both


def _place(row: PairedRow) -> str:
    if row.name == NONE:
        return ""
    a, b = _where(row.a), _where(row.b)
    return a if a == b else f"{a} → {b}"


def _where(side: Side) -> str:
    """`block 21`, `blocks 20+21`, `all blocks`."""
    sites = named(side.sites.removeprefix("all, "), 40)
    if sites.isdigit():
        return f"block {sites}"
    return "all blocks" if sites == "all" else f"blocks {sites}" if sites.replace("+", "").isdigit() else sites


def _title(row: PairedRow) -> str:
    place = _place(row)
    return f"{_name(row)}, {place}" if place else _name(row)


def _row_label(row: PairedRow, i: int) -> str:
    """Two lines; the number keeps apart what is alike."""
    return tip(f"{i}  {_name(row)}", _place(row))
