"""The page of a comparison: audits against a baseline, row by row on the same prompts."""

from __future__ import annotations

from collections.abc import Sequence

from bures.report.kit.page import Block, Cell, Command, Details, KeyFigure, Page, Section, Table
from bures.report.kit.text import named
from bures.report.sections.depths import depth_section
from bures.report.sections.paired import pair_sections
from bures.report.sections.provenance import day, words_section
from bures.report.words import PHRASE_JUDGES, PHRASES_ONLY
from bures.results.comparison import Compared, Pair
from bures.results.formatting import p_equals, percent, points
from bures.results.inference import LEVEL
from bures.results.names import NONE, STRONGEST
from bures.results.paired_differences import Shares

_WORDS = frozenset({"ASR", "over-refusal", "[low, high]", "intervention", "perplexity budget", "KL", "McNemar's test"})


def compare_page(found: Compared) -> Page:
    """The page of a comparison."""
    base, one = named(found.audits[0].label), len(found.pairs) == 1
    sections: list[Section] = []
    for i, pair in enumerate(found.pairs, 1):
        sections += pair_sections(found, pair, i, one=one)
    sections += [depth_section(found), _about(found), words_section(_WORDS)]
    return Page(
        kind="Comparison of audits",
        title=f"{named(found.pairs[0].b) if one else f'{len(found.pairs)} audits'} against {base}",
        finding=found.pairs[0].finding if one else " ".join(f"{pair.lead}." for pair in found.pairs),
        key_figures=_key_figures(found.pairs[0]) if one else (),
        cautions=tuple(_cautions(found)),
        sections=tuple(sections),
        about=tuple(
            f"{named(audit.label)}: weights {named(audit.fingerprint, 64)[:12]}, {day(audit.finished)}"
            for audit in found.audits
        ),
        footer="Made by bures from results.json of each audit; this file needs no network and holds no prompt.",
    )


def _key_figures(pair: Pair) -> tuple[KeyFigure, ...]:
    names = {NONE: "ASR, the model as it is", STRONGEST: "ASR, strongest intervention"}
    figures = [
        KeyFigure(names[row.name], _from_to(row.asr), _difference(row.asr, row.asr_p))
        for row in pair.rows
        if row.headline
    ]
    over, p = pair.rows[0].over_refusal, pair.rows[0].over_refusal_p
    if over is not None and p is not None:
        figures.append(KeyFigure("over-refusal", _from_to(over), _difference(over, p)))
    others = [row for row in pair.rows if not row.headline]
    if others:
        told = sum(row.asr_p < LEVEL for row in others)
        figures.append(KeyFigure("other rows that differ", f"{told} of {len(others)}", f"adjusted p < {LEVEL:g}"))
    return tuple(figures)


def _from_to(shares: Shares) -> str:
    return f"{percent(shares.a.value, unit='')} → {percent(shares.b.value)}"


def _difference(shares: Shares, p: float) -> str:
    return f"{points(shares.difference)}, {p_equals(p, 'adjusted p')}"


def _cautions(found: Compared) -> list[str]:
    said: list[str] = []
    for pair in found.pairs:
        lead = "" if len(found.pairs) == 1 else f"{named(pair.b)}: "
        said += [f"{lead}{caution}" for caution in pair.cautions]
    if found.by_labels:
        said.append(named(found.by_labels, 600))
    elif found.judge in PHRASE_JUDGES:
        said.append(PHRASES_ONLY)
    return said


def _about(found: Compared) -> Section:
    rows = tuple(
        (
            named(audit.label),
            Cell(named(audit.fingerprint, 64), tone="code"),
            named(audit.finished or "-", 40),
            named(audit.folder, 200),
        )
        for audit in found.audits
    )
    commands: Sequence[Block] = [Command(audit.command) for audit in found.audits]
    return Section(
        "about",
        "What was compared",
        (
            Table(("audit", "weights", "finished", "folder"), rows, "The baseline is the first."),
            Details("The commands that measure the same", tuple(commands)),
        ),
    )
