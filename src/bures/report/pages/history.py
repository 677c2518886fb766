"""The page of a history: ASR, perplexity and chosen blocks of audits over time."""

from __future__ import annotations

from bures.report.kit.page import Block, Items, KeyFigure, Page, Section
from bures.report.kit.text import named
from bures.report.sections.provenance import words_section
from bures.report.sections.series import row_name, series_section
from bures.report.words import interval_and_n, prompts
from bures.results.care import of_series
from bures.results.formatting import brief, number, percent
from bures.results.history import History, Point, Series
from bures.results.names import STRONGEST

_WORDS = frozenset(
    {"ASR", "over-refusal", "[low, high]", "intervention", "perplexity, ×", "perplexity budget", "judge"}
)


def history_page(found: History) -> Page:
    """The page of a history."""
    latest, one = found.latest, len(found.series) == 1
    sections = [series_section(found, series, i, one=one) for i, series in enumerate(found.series, 1)]
    sections += [_words(found), words_section(_WORDS)]
    return Page(
        kind="Audits over time",
        title=_title(latest),
        finding=_finding(found),
        key_figures=_key_figures(latest),
        cautions=tuple(_cautions(found)),
        sections=tuple(sections),
        about=_about(found),
        footer="Made by bures from results.json of each audit; this file needs no network and holds no prompt.",
    )


def _about(found: History) -> tuple[str, ...]:
    points = [point for series in found.series for point in series.points]
    days = sorted(_day(point) for point in points)
    return (f"{len(points)} audits", f"{days[0]} to {days[-1]}")


def _title(series: Series) -> str:
    models = list(dict.fromkeys(point.model for point in series.points))
    return named(models[0]) if len(models) == 1 else f"{named(models[0])} to {named(models[-1])}"


def _finding(found: History) -> str:
    latest = found.latest
    if latest.sentences:
        return " ".join(latest.sentences)
    last = latest.points[-1]
    figures = [f"{row_name(row.name)}, it answers {brief(row.asr)}" for row in last.rows]
    return f"One audit cannot show a change: {'; '.join(figures)} of {prompts(latest.n_harmful, 'harmful')}."


def _key_figures(series: Series) -> tuple[KeyFigure, ...]:
    last = series.points[-1]
    figures = [
        KeyFigure(
            f"ASR {row_name(row.name)}, last audit",
            percent(row.asr.value),
            interval_and_n(row.asr),
        )
        for row in last.rows
    ]
    dear = next((row for row in last.rows if row.name == STRONGEST and row.perplexity_ratio is not None), None)
    if dear is not None:
        figures.append(KeyFigure("perplexity over the original's", f"× {number(dear.perplexity_ratio)}", "strongest"))
    counts = KeyFigure("audits in this series", str(len(series.points)), f"{_day(series.points[0])} to {_day(last)}")
    return (*figures, counts)


def _day(point: Point) -> str:
    return point.time[:10]


def _cautions(found: History) -> list[str]:
    said: list[str] = []
    if len(found.series) > 1:
        said.append(
            f"The audits are of {len(found.series)} groups, which differ in their prompts, judge, system prompt, "
            "length of answers or the shape of the model: the groups stand apart, and their figures cannot be compared."
        )
    latest = found.latest
    told = of_series((point.model for point in latest.points), latest.n_harmful, latest.max_new_tokens)
    said += [named(caution, 300) for caution in told]
    if any(point.time_of_file for series in found.series for point in series.points):
        said.append("Times marked * are those of the files: these results do not say when the audit ended.")
    if found.left_out:
        said.append(f"{len(found.left_out)} folders were left out; the reasons are at the end.")
    return said


def _words(found: History) -> Section:
    blocks: list[Block] = []
    if found.left_out:
        blocks += ["Left out:", Items(tuple(named(reason, 600) for reason in found.left_out))]
    blocks += [
        (
            "A change between the first and the last audit is told by McNemar's test on the same prompts, "
            f"of one row of both, adjusted for the number of rows and for {found.series[0].looks} looks: in so many "
            "audits without a change a false one is said in at most 5%. Audits in between are drawn, not tested."
        ),
    ]
    return Section("reading", "How to read this", tuple(blocks))
