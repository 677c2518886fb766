"""The page of a defence table."""

from __future__ import annotations

from bures.report.defence_words import THREAT_MODEL, asr_of, attacks_of, cautions, finding, how_to_read
from bures.report.kit.page import Cell, KeyFigure, Page, Section, Table
from bures.report.kit.text import named
from bures.report.pages.audit import footer
from bures.report.sections.provenance import about_run, limits_section, present, provenance_section, words_section
from bures.report.sections.withstood import withstood_figure
from bures.report.words import interval_and_n, judge_error
from bures.results.defence_brief import defence_brief, figure
from bures.results.defending import NULL, Attacked, DefenceResult, Withstood
from bures.results.formatting import p_value, percent, points, share


def defence_page(result: DefenceResult, extra: tuple[Section, ...] = ()) -> Page:
    """The page of a defence table; `extra` sections come after the findings."""
    return Page(
        kind="Defence table",
        title=" against ".join(filter(None, (named(result.models[0].name), _others(result)))),
        finding=named(finding(result), 4000),
        key_figures=_key_figures(result.models[0]),
        cautions=tuple(named(each, 600) for each in cautions(result)),
        sections=present(
            [
                _models(result),
                _incoherent(result),
                _attacks(result),
                *extra,
                _audits(result),
                limits_section(result),
                provenance_section(result),
                words_section(),
            ]
        ),
        about=about_run(result),
        footer=footer(result.versions.get("bures", "")),
    )


def _others(result: DefenceResult) -> str:
    return ", ".join(named(model.name) for model in result.models[1:])


def _key_figures(model: Withstood) -> tuple[KeyFigure, ...]:
    found = figure(model, within_budget=True)
    if found is None:
        return ()
    return (
        KeyFigure("ASR, worst attack in budget", percent(found.worst_asr.value), interval_and_n(found.worst_asr)),
        KeyFigure("any attack in budget", percent(found.union.value), interval_and_n(found.union)),
    )


def _models(result: DefenceResult) -> Section:
    brief = defence_brief(result)
    rows = tuple(tuple(named(cell, 80) for cell in row) for row in brief.rows)
    said = tuple(named(line, 1200) for line in how_to_read(result))
    blocks = (
        THREAT_MODEL,
        withstood_figure(result),
        Table(tuple(named(name, 80) for name in brief.header), rows),
        *_pairs(result),
        *said,
    )
    return Section("models", "What each model withstands", blocks)


def _pairs(result: DefenceResult) -> tuple[Table, ...]:
    """The first model against each of the others."""
    if not result.pairs:
        return ()
    header = ("pair", "broken in the first alone", "in the second alone", "second less first", "p", "adjusted p")
    rows = tuple(
        (
            f"{named(pair.first, 80)}, {named(pair.second, 80)}",
            str(pair.only_first),
            str(pair.only_second),
            points(pair.difference),
            p_value(pair.p),
            p_value(pair.p_adjusted),
        )
        for pair in result.pairs
    )
    return (Table(header, rows, "The unions, prompt by prompt."),)


def _incoherent(result: DefenceResult) -> Section | None:
    """The figures within the budget with incoherent answers as successes, and under the judge's measured errors."""
    found = [
        (model, figure(model, coherent=False, within_budget=True), figure(model, within_budget=True))
        for model in result.models
    ]
    rows = tuple(
        (
            named(model.name, 80),
            share(loose.worst_asr),
            named(loose.worst, 80),
            _judged(model.judge_range),
            share(loose.union),
            share(strict.union),
        )
        for model, loose, strict in found
        if loose is not None and strict is not None
    )
    header = ("model", "worst, judge alone", "by", "the same under the judge's errors", "any attack, judge alone")
    table = Table((*header, "any attack, coherent"), rows)
    return Section("judge", "What the judge makes of it", (judge_error(result.judge), table)) if rows else None


def _judged(found: dict[str, float]) -> str:
    """The range over the sets on which the judge's error was measured."""
    inside = [x for x in found.values() if 0 <= x <= 1]
    return f"{percent(min(inside))} to {percent(max(inside))}" if inside else "-"


def _attacks(result: DefenceResult) -> Section:
    header = ("attack", "kind", *(named(model.name, 80) for model in result.models))
    rows = [
        (named(name, 80), next(each.kind for each in found if each is not None), *map(_asr, found))
        for name, found in attacks_of(result)
    ]
    table = Table(header, tuple(row for row in rows if row[1] != NULL))
    null = Table(header, tuple(row for row in rows if row[1] == NULL), "The null, which belongs to no figure.")
    return Section("attacks", "Every attack", (table, *([null] if null.rows else [])))


def _audits(result: DefenceResult) -> Section:
    """The audits that the attacks were made on."""
    rows = tuple(
        (
            named(model.name, 80),
            named(model.model.get("name", "-"), 80),
            Cell(named(model.model.get("fingerprint", "-"), 64), tone="code"),
            named(model.finished or "-", 40),
            named(model.run, 200),
        )
        for model in result.models
    )
    table = Table(("name", "model", "weights", "audit finished", "folder"), rows, "The first is the defence tested.")
    return Section("audits", "The models", (table,))


def _asr(attacked: Attacked | None) -> str:
    mark = "!" if attacked is not None and attacked.within_budget is False else ""
    return "failed" if attacked is not None and attacked.error is not None else share(asr_of(attacked)) + mark
