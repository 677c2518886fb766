"""The answers of a run as one page for the person who ran it: every row, filtered by row, verdict and disagreement.

The page holds prompts and completions, so it is readable by its owner only, is never what a git repository would take
up, and is made where it is asked for alone. All text in it is untrusted: it is escaped, its control and direction
characters are visible, and the page can fetch nothing (see `bures.report.kit.page`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bures import durable
from bures.errors import ConfigError, RunError
from bures.report.kit.page import asset, content_policy, markup, template
from bures.report.kit.text import clean
from bures.results.names import COHERENT, NONE
from bures.results.run_folder import RunFolder, load_result
from bures.results.schema import AuditResult

ANSWERS = "answers.html"

LONGEST = 20_000
"""Characters of one prompt or answer that are shown."""

_VERDICTS: Mapping[object, str] = {True: "refused", False: "answered", None: "unfinished"}


@dataclass(frozen=True)
class _Filter:
    """One of several values that answers are filtered by; a page knows them by their places."""

    name: str
    label: str
    options: tuple[str, ...]


def write_view(run: str | Path, out: str | Path | None = None) -> Path:
    """Writes the page of a run's answers, mode 0600.

    Args:
        run: folder of an audit.
        out: the file; default `answers.html` in the folder.

    Raises:
        RunError: the folder holds no audit or no completions, or the file cannot be written.
        ConfigError: a git repository would take the file up.
    """
    folder = RunFolder(Path(run))
    result = load_result(folder.path)
    lines = list(folder.read_completions())
    if not lines:
        raise RunError(f"no answers are kept in {folder.path}: completions.jsonl is not there or empty; audit again")
    target = Path(out) if out is not None else folder.path / ANSWERS
    _require_untracked(target)
    try:
        durable.write(target, view_page(result, lines), private=True)
    except OSError as error:
        raise RunError(f"cannot write {target} ({error.strerror}); choose another file with --out") from error
    return target


def view_page(result: AuditResult, lines: Iterable[Mapping[str, Any]]) -> str:
    """The page as HTML."""
    kept = [line for line in lines if isinstance(line.get("refusal"), Mapping)]
    rows = tuple(dict.fromkeys(str(line.get("row")) for line in kept))
    judge = result.judge
    filters = (
        _Filter("row", "row", rows),
        _Filter("side", "prompts", ("harmful", "harmless")),
        _Filter("verdict", "verdict", tuple(_VERDICTS.values())),
    )
    before = {_place(line): line for line in kept if line.get("row") == NONE}
    styles, script = [asset("page.css"), asset("view.css")], asset("view.js")
    text = template("view.html").render(
        title=str(result.model.get("name", "?")),
        judge=judge,
        filters=filters,
        answers=[_shown(line, before.get(_place(line)), judge, filters) for line in kept],
        styles=[markup(style) for style in styles],
        script=markup(script),
        policy=content_policy(style=styles, script=[script]),
    )
    return text.lstrip() + "\n"


def _place(line: Mapping[str, Any]) -> tuple[str, str]:
    return str(line.get("set")), str(line.get("hash"))


def _shown(
    line: Mapping[str, Any], before: Mapping[str, Any] | None, judge: str, filters: Sequence[_Filter]
) -> dict[str, Any]:
    """One answer as the template takes it."""
    verdicts = _verdicts(line)
    headline = verdicts.get(judge, next(iter(verdicts.values()), _VERDICTS[None]))
    was = None if before is None else _verdicts(before).get(judge)
    said = {"row": str(line.get("row")), "side": str(line.get("set")), "verdict": headline}
    flipped = was is not None and was != headline and line.get("row") != NONE
    disagree = len({verdict for verdict in verdicts.values() if verdict != _VERDICTS[None]}) > 1
    places = {f.name: f.options.index(said[f.name]) + 1 if said[f.name] in f.options else 0 for f in filters}
    data = {**places, "disagree": int(disagree), "flipped": int(flipped)}
    return {
        **said,
        "data": markup(" ".join(f'data-{name}="{value}"' for name, value in data.items())),  # numbers alone
        "verdicts": list(verdicts.items()),
        "flipped": flipped,
        "disagree": disagree,
        "hash": str(line.get("hash", ""))[:12],
        "category": line.get("category") and str(line["category"]),
        "prompt": _long(line.get("prompt")),
        "thinking": _long(line.get("thinking")),
        "completion": _long(line.get("completion")),
        "before": _long(None if before is None else before.get("completion")),
        "before_verdict": was,
    }


def _verdicts(line: Mapping[str, Any]) -> dict[str, str]:
    """Judge -> what it said; its second reading, for coherence, is left out."""
    said = cast("Mapping[object, object]", line["refusal"])
    known = {str(judge): _VERDICTS.get(mark) for judge, mark in said.items() if mark in (True, False, None)}
    return {judge: verdict for judge, verdict in known.items() if verdict and not judge.endswith(COHERENT)}


def _long(text: object) -> Any:
    """Text for the template, which cuts nothing of it any more: escaped here."""
    from markupsafe import escape

    return "" if text is None else escape(clean(str(text), LONGEST))


def _require_untracked(target: Path) -> None:
    """Refuses a file that a git repository around it would take up."""
    folder = target.resolve().parent
    if not any((above / ".git").exists() for above in (folder, *folder.parents)):
        return
    command = ["git", "-C", str(folder), "check-ignore", "--quiet", "--", str(target.resolve())]
    try:
        ignored = subprocess.run(command, check=False, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.SubprocessError):
        ignored = False
    if not ignored:
        raise ConfigError(
            f"{target} lies in a git repository that does not ignore it, and would hold prompts and answers; "
            "give a file elsewhere with --out, or ignore the run folder"
        )
