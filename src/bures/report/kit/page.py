"""`render`: a page as one self-contained HTML file; and what a page is made of, from `bures.report.kit.blocks`.

Every string on a page is text: the template escapes it, control and direction characters become visible escapes, and a
line that is too long is cut. Nothing on a page can fetch anything (`default-src 'none'`), and only the scripts and the
style sheet whose hashes are in its policy take effect.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from bures.report.kit.blocks import (
    Block,
    Cell,
    Choice,
    Command,
    Details,
    Facts,
    Figure,
    Grid,
    Items,
    Key,
    KeyFigure,
    Legend,
    Page,
    Section,
    Spec,
    Table,
    Tone,
    figures_of,
)
from bures.report.kit.bundle import vega_bundle
from bures.report.kit.charts import AUTOSIZE, CONFIG
from bures.report.kit.text import clean

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = [
    "Block",
    "Cell",
    "Choice",
    "Command",
    "Details",
    "Facts",
    "Figure",
    "Grid",
    "Items",
    "Key",
    "KeyFigure",
    "Legend",
    "Page",
    "Section",
    "Spec",
    "Table",
    "Tone",
    "as_json_in_html",
    "asset",
    "content_policy",
    "figures_of",
    "markup",
    "render",
    "template",
]


def render(page: Page) -> str:
    """The page as HTML: one file that needs nothing else.

    Raises:
        ValueError: two figures or sections share an id, or a chart holds a number that is not finite.
    """
    figures = list(figures_of(page))
    ids = [each.id for each in (*page.sections, *figures)]
    if len(set(ids)) != len(ids):
        raise ValueError(f"Ids must be unique on a page, got {sorted(ids)}.")
    style, script = asset("page.css"), asset("page.js")
    library = vega_bundle() if figures else ""
    specs = {figure.id: _cleaned({"autosize": AUTOSIZE, **figure.spec}) for figure in figures}
    text = template("page.html").render(
        page=page,
        style=markup(style),
        scripts=[markup(code) for code in (library, script) if code],
        data=markup(as_json_in_html({"config": CONFIG, "specs": specs})),
        policy=content_policy(style=[style], script=[code for code in (library, script) if code]),
    )
    return text.lstrip() + "\n"


def content_policy(*, style: list[str], script: list[str]) -> str:
    """A Content-Security-Policy under which nothing is fetched and only these inline texts take effect."""

    def hashes(texts: list[str]) -> str:
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes(script)}; style-src {hashes(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def as_json_in_html(value: Any) -> str:
    """JSON that may stand inside a script element, whatever its strings hold.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# Parts of `render` -----------------------------------------------------------------------------------------------


def _cleaned(value: Any) -> Any:
    """A specification whose strings are fit to be seen, and whose numbers are no longer than can be seen."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: _cleaned(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value


@cache
def asset(name: str) -> str:
    """A file of `templates/`."""
    return (files("bures.report") / "templates" / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def markup(text: str) -> Any:
    """Text that a template does not escape."""
    from markupsafe import Markup

    return Markup(text)  # our own files, and JSON with <, > and & escaped


@cache
def template(name: str) -> Template:
    """A template that escapes every string, and makes it fit to be seen."""
    import jinja2
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bures.report"),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["text"] = lambda value: isinstance(value, str)
    environment.filters["kind"] = lambda value: type(value).__name__
    return environment.get_template(name)
