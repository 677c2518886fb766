"""Results for other documents: CSV for a spreadsheet, LaTeX for a paper, Markdown, and the section of a model card.

All hold the rows' keys, the intervals, n, the judge and what a reader must know; none holds a prompt or an answer.
Names come from models and files and are untrusted: in Markdown and LaTeX they are inert, and a cell that a spreadsheet
would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from bures.errors import ConfigError, plain
from bures.judges.known_error import sentence
from bures.report.build import page_of
from bures.report.gate_summaries import code
from bures.report.kit.text import shortened
from bures.report.sections.provenance import limits
from bures.results.brief import Brief, audit_brief, probe_brief, scan_brief, search_brief
from bures.results.defence_brief import defence_brief
from bures.results.defending import DefenceResult
from bures.results.effort import Effort
from bures.results.frames import flat
from bures.results.probing import ProbeResult
from bures.results.schema import AuditResult, RunResult, ScanResult, SearchResult

Format = Literal["csv", "latex", "markdown", "model-card"]

_INERT = re.compile(r"(?:[\w .,;'()%/+=^–±×→-]|: |\[[\d., -]+\](?!\())*[:!]?", re.ASCII)
"""Text that Markdown shows as it is: no mark that could open a link, a tag, emphasis or a table's cell, but for the
brackets of an interval."""

_ACTS = re.compile(r"www\.|__|(?<!\w)_|_(?!\w)", re.ASCII)
"""What of it would still be taken for an address or for emphasis."""

_LONGEST = 2000

_LATEX = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}

THREAT_MODEL = (
    "The attacker has the weights and edits activations while the model answers, with maps fitted on harmful and "
    "harmless prompts. Neither jailbreak prompts nor fine-tuning nor edits of the weights were tried, and an answer "
    "that is no refusal need not be harmful."
)


def export(result: RunResult, to: Format) -> str:
    """A result as text.

    Args:
        result: of any job.
        to: `csv`, `latex`, `markdown` or `model-card`; the last one of audits alone.

    Raises:
        ConfigError: a model card of something else than a finished audit.
    """
    return _WRITERS[to](result)


def _brief(result: RunResult) -> Brief:
    if isinstance(result, AuditResult):
        return _trimmed(audit_brief(result))
    if isinstance(result, ScanResult):
        return scan_brief(result)
    if isinstance(result, SearchResult):
        return search_brief(result)
    if isinstance(result, ProbeResult):
        return probe_brief(result, "test", f"{result.model.get('name', '?')}: detectors of harmful prompts")
    if isinstance(result, DefenceResult):
        return _trimmed(defence_brief(result))
    raise ConfigError(f"a {type(result).__name__} has no table to export; give the folder of an audit or another job")


def _trimmed(brief: Brief) -> Brief:
    """Without seconds, and without columns that no row has a figure in."""
    kept = [i for i, name in enumerate(brief.header) if name != "s" and any(row[i] != "-" for row in brief.rows)]
    rows = tuple(tuple(row[i] for i in kept) for row in brief.rows)
    return Brief(brief.title, tuple(brief.header[i] for i in kept), rows)


def _about(result: RunResult) -> dict[str, str]:
    """What a table is of, for whoever meets it without its run folder."""
    split = "test" if isinstance(result, AuditResult | DefenceResult) else "select"
    n = {side: result.prompts.get(f"{side}_{split}", {}).get("n", "?") for side in ("harmful", "harmless")}
    return {
        "model": str(result.model.get("name", "?")),
        "weights": str(result.model.get("fingerprint", "?"))[:12],
        "judge": result.judge,
        "prompts": f"{n['harmful']} harmful, {n['harmless']} harmless",
        "finished": "no" if result.finished is None else result.finished[:10],
    }


def _cautions(result: RunResult) -> list[str]:
    """What a reader must know, once each."""
    judge = [] if isinstance(result, ProbeResult) else [sentence(result.judge)]
    return list(dict.fromkeys([*page_of(result).cautions, *judge, *limits(result), *result.notes]))


# CSV --------------------------------------------------------------------------------------------------------------


def _csv(result: RunResult) -> str:
    """One line a row; what the table is of, and the cautions, stand in every line."""
    brief = _brief(result)
    rows: list[dict[str, Any]] = [dict(zip(brief.header, cells, strict=True)) for cells in brief.rows]
    if isinstance(result, AuditResult):
        rows = [flat(row, result.judge) for row in result.rows]
    tail = {**_about(result), "cautions": " ".join(_cautions(result))}
    header = dict.fromkeys(name for row in rows for name in row) | dict.fromkeys(tail)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(name) for name in header])
    writer.writerows([_cell({**row, **tail}.get(name)) for name in header] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    """A cell: numbers as they are, text that no spreadsheet takes for a formula."""
    if value is None or not isinstance(value, str):
        return "" if value is None else value
    text = shortened(" ".join(plain(value).split()), _LONGEST)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and text != "-" else text


# LaTeX ------------------------------------------------------------------------------------------------------------


def _latex(result: RunResult) -> str:
    r"""A table environment for \usepackage{booktabs}, with what one needs to read it in its caption."""
    brief = _brief(result)
    said = "; ".join(f"{name} {value}" for name, value in _about(result).items())
    lines = [
        r"% needs \usepackage{booktabs} and, where it is wide, \usepackage{graphicx} with \resizebox",
        r"\begin{table}",
        rf"\caption{{{_tex(brief.title)} ({_tex(said)}).}}",
        rf"\begin{{tabular}}{{{'l' * min(2, len(brief.header))}{'r' * max(0, len(brief.header) - 2)}}}",
        r"\toprule",
        *(_tex_row(row) for row in (brief.header,)),
        r"\midrule",
        *(_tex_row(row) for row in brief.rows),
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"\footnotesize",
        *(_tex(caution) for caution in _cautions(result)),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex_row(cells: Iterable[str]) -> str:
    row = " & ".join(map(_tex, cells))
    return rf"{{}}{row} \\" if row.startswith("[") else rf"{row} \\"  # behind \\ a bracket is an argument


def _tex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in shortened(" ".join(plain(text).split()), _LONGEST))


# Markdown ---------------------------------------------------------------------------------------------------------


def _markdown(result: RunResult) -> str:
    """A table, and under it what it is of and the cautions."""
    brief = _brief(result)
    about = [f"{name}: {inert(value)}" for name, value in _about(result).items()]
    return "\n".join(
        [f"**{inert(brief.title)}**", "", *_table(brief), "", "; ".join(about), "", *_listed(_cautions(result)), ""]
    )


def _table(brief: Brief) -> list[str]:
    """The lines of a table; keys of rows are code, as they are typed."""
    head = [f"| {' | '.join(brief.header)} |", f"|{'---|' * len(brief.header)}"]
    key = brief.header[:1] == ("row",)
    rows = [[inert(cell) for cell in cells] for cells in brief.rows]
    for row, cells in zip(rows, brief.rows, strict=True):
        if key and re.fullmatch(r"[\w.+-]+", cells[0], re.ASCII):
            row[0] = f"`{cells[0]}`"
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def _listed(sentences: Iterable[str]) -> list[str]:
    return [f"- {inert(each)}" for each in sentences]


def inert(text: str) -> str:
    """Text as Markdown that shows it and does nothing else; letters and plain punctuation stay readable.

    What holds anything more, such as `*`, `<`, `|`, `@` or an address, is shown as code, every mark a reference.
    """
    line = shortened(" ".join(plain(text).split()), _LONGEST)
    return line if _INERT.fullmatch(line) and not _ACTS.search(line) else code(line, _LONGEST)


def _card(result: RunResult) -> str:
    """A section of Markdown: threat model, what was tried, the table, cautions, and the command."""
    if not isinstance(result, AuditResult) or result.status != "complete":
        raise ConfigError("a model card shows a finished audit; give the folder of one, or --to markdown")
    about, version = _about(result), result.versions.get("bures", "")
    had = isinstance(result.options.get("system"), str)
    again = (
        "It had a system prompt, which is not shown." if had else f"The same again: {code(result.command, _LONGEST)}"
    )
    lines = [
        "## Refusal under white-box interventions",
        "",
        f"{inert(page_of(result).finding)}",
        "",
        f"**Threat model.** {THREAT_MODEL}",
        "",
        f"**What was tried.** {inert(Effort.of(result).sentence)}",
        "",
        *_table(_brief(result)),
        "",
        (
            "ASR: share of harmful prompts answered without refusal, with its 95 % interval; over-refusal, ppl, KL: on "
            "harmless prompts; x: perplexity over the original's; !: outside the budget where it was chosen. Blocks, "
            "K and tokens were chosen on other prompts than those of the table."
        ),
        "",
        "**Read with care.**",
        "",
        *_listed(_cautions(result)),
        "",
        f"Measured with bures {inert(version)}, {'; '.join(f'{k} {inert(v)}' for k, v in about.items())}. {again}",
        "",
    ]
    return "\n".join(lines)


_WRITERS: Mapping[Format, Callable[[RunResult], str]] = {
    "csv": _csv,
    "latex": _latex,
    "markdown": _markdown,
    "model-card": _card,
}
