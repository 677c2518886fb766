"""From a run folder to its page."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bures import durable
from bures.errors import ConfigError, RunError
from bures.report.kit.page import Page, Section, Table, render
from bures.report.kit.text import named
from bures.report.pages.audit import audit_page
from bures.report.pages.defence import defence_page
from bures.report.pages.probe import probe_page
from bures.report.pages.scan import scan_page
from bures.report.pages.search import search_page
from bures.results.defending import DefenceResult
from bures.results.probing import ProbeResult
from bures.results.run_folder import RunFolder, load_result
from bures.results.schema import AuditResult, RunResult, ScanResult, SearchResult

PAGE = "report.html"
DEFENCE_PAGE = "defence.html"
PAGE_WITH_COMPLETIONS = "report-with-completions.html"
"""Another name, so that what was made to be read here is not sent on by mistake."""

LONGEST_COMPLETION = 2000


def page_of(result: RunResult, extra: tuple[Section, ...] = ()) -> Page:
    """The page of a result of any job.

    Raises:
        RunError: there is no page for this kind of result.
    """
    if isinstance(result, AuditResult):
        return audit_page(result, extra)
    if isinstance(result, ScanResult):
        return scan_page(result, extra)
    if isinstance(result, SearchResult):
        return search_page(result, extra)
    if isinstance(result, ProbeResult):
        return probe_page(result, extra)
    if isinstance(result, DefenceResult):
        return defence_page(result, extra)
    raise RunError(
        f"no page for a {type(result).__name__}; expected the results of an audit, a scan, a search, a probe or a "
        "defence table"
    )


class Report:
    """The page of a run, in plain Python; in a notebook it shows itself.

    Args:
        run: a result, or the folder of one.
        sections: ids of the sections to show, such as `damage` (ASR against cost) or `layers` (where in the network);
            None: the whole page.

    Raises:
        RunError: the folder holds no results.
        ConfigError: when it is shown or saved: there is no such section.
    """

    def __init__(self, run: RunResult | str | Path, sections: str | Sequence[str] | None = None) -> None:
        self.result: RunResult = run if isinstance(run, RunResult) else load_result(run, RunResult)
        self.sections = (sections,) if isinstance(sections, str) else None if sections is None else tuple(sections)

    def __repr__(self) -> str:
        """One line, for where no page can be shown."""
        return f"Report({self.result!r})"

    @property
    def page(self) -> Page:
        """What the page is made of; a report of some sections has them alone."""
        whole = page_of(self.result)
        if self.sections is None:
            return whole
        there = {section.id: section for section in whole.sections}
        unknown = [name for name in self.sections if name not in there]
        if unknown:
            raise ConfigError(f"this report has no section {unknown[0]!r}; it has {', '.join(there)}")
        return replace(whole, sections=tuple(there[name] for name in self.sections), key_figures=(), cautions=())

    @property
    def html(self) -> str:
        """The page: one self-contained HTML document without any prompt."""
        return render(self.page)

    def save(self, path: str | Path) -> Path:
        """Writes the page."""
        write_page(self.page, Path(path))
        return Path(path)

    def _repr_html_(self) -> str:
        """A frame of its own, which can reach neither the notebook nor the network."""
        page = html.escape(self.html)
        return (
            f'<iframe sandbox="allow-scripts" srcdoc="{page}" style="width: 100%; height: 45rem; border: 0"></iframe>'
        )


def write_report(run: str | Path, out: str | Path | None = None, *, show_completions: int = 0) -> Path:
    """Writes the page of a run folder.

    Args:
        run: the folder.
        out: the file; default `report.html` in the folder (`defence.html` of a defence table), or
            `report-with-completions.html`.
        show_completions: how many completions of every row are shown, with their prompts (may be harmful text).

    Raises:
        RunError: the folder holds no results, or the file cannot be written.
    """
    folder = RunFolder(Path(run))
    result = load_result(folder.path, RunResult)
    extra = (completions_section(folder.read_completions(), show_completions),) if show_completions > 0 else ()
    page = page_of(result, extra)
    if extra:
        warning = "This page shows completions: it may hold harmful text. Do not publish it."
        footer = "Made by bures from results.json and completions.jsonl; this file needs no network."
        page = replace(page, cautions=(warning, *page.cautions), footer=footer)
    own = DEFENCE_PAGE if isinstance(result, DefenceResult) else PAGE
    target = Path(out) if out is not None else folder.path / (PAGE_WITH_COMPLETIONS if extra else own)
    write_page(page, target, private=bool(extra))
    return target


def write_page(page: Page, target: Path, *, private: bool = False) -> None:
    """Writes a page whole or not at all; a private one is readable by its owner only.

    Raises:
        RunError: the file cannot be written.
    """
    text = render(page)
    try:
        durable.write(target, text, private=private)
    except OSError as error:
        raise RunError(f"cannot write {target} ({error.strerror}); choose another file with --out") from error


def completions_section(lines: Iterable[Mapping[str, Any]], count: int) -> Section:
    """The first completions of every row and set, with their prompts."""
    shown: defaultdict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for line in lines:
        kept = shown[str(line.get("row")), str(line.get("set"))]
        if len(kept) < count:
            kept.append(line)
    rows = [
        (
            named(row, 40),
            named(which, 20),
            named(str(line.get("hash", ""))[:12], 12),
            _marks(line.get("refusal")),
            named(line.get("prompt", ""), LONGEST_COMPLETION),
            named(line.get("completion", ""), LONGEST_COMPLETION),
        )
        for (row, which), kept in shown.items()
        for line in kept
    ]
    header = ("row", "prompts", "hash", "refusal, by judge", "prompt", "completion")
    return Section(
        "completions",
        "Completions",
        (f"The first {count} of every row and set, as the model wrote them.", Table(header, tuple(rows))),
    )


def _marks(refusal: object) -> str:
    if not isinstance(refusal, Mapping):
        return "-"
    return ", ".join(f"{named(judge, 30)} {'yes' if refused else 'no'}" for judge, refused in refusal.items())
