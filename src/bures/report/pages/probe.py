"""The page of a probe."""

from __future__ import annotations

from bures.report.kit.page import Page, Section, Table
from bures.report.pages.audit import footer
from bures.report.probe_words import finding, heading, legend
from bures.report.sections.provenance import about_run, limits_section, present, provenance_section, words_section
from bures.report.words import model_name
from bures.results.formatting import as_given, estimate, number, share
from bures.results.names import RATES
from bures.results.probing import ProbeResult, ProbeRow


def probe_page(result: ProbeResult, extra: tuple[Section, ...] = ()) -> Page:
    """The page of a probe; `extra` sections come after the findings."""
    cautions = ["The run has not finished; these are the figures so far."] if result.status == "running" else []
    tables = [_section(result, i, key) for i, key in enumerate(result.detectors[0].told if result.detectors else ())]
    return Page(
        kind="Probe",
        title=model_name(result),
        finding=finding(result),
        key_figures=(),
        cautions=tuple(cautions),
        sections=present([*tables, *extra, limits_section(result), provenance_section(result), words_section()]),
        about=about_run(result),
        footer=footer(result.versions.get("bures", "")),
    )


def _section(result: ProbeResult, number_: int, key: str) -> Section:
    rates = [f"{side} at {as_given(rate)}" for rate in RATES[::-1] for side in ("TPR", "FPR")]
    header = ("detector", "position", "block", "selection", "AUROC", "over n-grams", *rates)
    rows = tuple(_cells(result, row, key) for row in result.detectors if key in row.told)
    said = tuple(legend(result)[1:6]) if number_ == 0 else ()
    return Section(f"told-{number_}", heading(result, key), (Table(header, rows), *said))


def _cells(result: ProbeResult, row: ProbeRow, key: str) -> tuple[str, ...]:
    found = row.told[key]
    at = {cutoff.rate: cutoff for cutoff in found.cutoffs}
    shares = [
        share(getattr(at[rate], side) if rate in at else None)
        for rate in RATES[::-1]
        for side in ("flagged_harmful", "flagged_harmless")
    ]
    name = f"{row.detector} (chosen)" if row.key == result.chosen else row.detector
    block = "-" if row.block is None else str(row.block)
    aurocs = estimate(found.auroc), estimate(found.over_words, signed=True)
    return (name, row.position or "-", block, number(row.selection), *aurocs, *shares)
