"""The page of a scan."""

from __future__ import annotations

from bures.report.kit.page import KeyFigure, Page, Section
from bures.report.pages.audit import footer
from bures.report.sections.layers import layer_section
from bures.report.sections.profile import block_name
from bures.report.sections.provenance import about_run, limits_section, present, provenance_section, words_section
from bures.report.words import model_name
from bures.results.formatting import brief, number, percent
from bures.results.records import Localisation
from bures.results.schema import ScanResult


def scan_page(result: ScanResult, extra: tuple[Section, ...] = ()) -> Page:
    """The page of a scan; `extra` sections come after the findings."""
    found = result.localisation
    nothing = " ".join(result.notes) or "Nothing has been scanned yet."
    cautions = ["The run has not finished; these are the figures so far."] if result.status == "running" else []
    if found is not None:
        cautions.append(
            "What is measured is the first token of the answer, on the selection prompts; an audit says what the whole "
            "answers are."
        )
    return Page(
        kind="Layer scan",
        title=model_name(result),
        finding=nothing if found is None else found.sentence,
        key_figures=() if found is None else _key_figures(found),
        cautions=tuple(cautions),
        sections=present(
            [
                layer_section(result, said=True),
                *extra,
                limits_section(result),
                provenance_section(result),
                words_section(),
            ]
        ),
        about=about_run(result),
        footer=footer(result.versions.get("bures", "")),
    )


def _key_figures(found: Localisation) -> tuple[KeyFigure, ...]:
    figures = [
        KeyFigure("first-token refusal, harmful prompts", percent(found.refusal.value, 0), _n(found.refusal.n)),
        KeyFigure(
            "first-token refusal, harmless prompts",
            percent(found.refusal_harmless.value, 0),
            _n(found.refusal_harmless.n),
        ),
    ]
    if found.effects:
        peak = found.strongest
        note = f"such as at {block_name(peak.blocks[0], found.n_blocks)}; KL {number(peak.kl)}"
        figures.append(KeyFigure("removed by the strongest maps", brief(peak.removed), note))
    return tuple(figures)


def _n(n: int) -> str:
    return f"n = {n}"
