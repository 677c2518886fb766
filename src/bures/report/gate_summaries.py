"""What a gate leaves for other programs: JUnit XML for a build server, Markdown for a pull request.

Both hold text from models and run folders, which is untrusted: control characters become visible escapes, and in
Markdown every such text stands in a code element, with character references for whatever could end a table's cell, mark
text up or call a person, an issue or an address.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from bures.errors import plain
from bures.results.gate import Gated
from bures.results.gate_check import Check

_LONGEST = 300
_PLAIN = frozenset(" .,:;%+-()/'\"=?±×→–")
"""What means nothing in the middle of a line of Markdown, unless it makes an address."""
_ADDRESS = re.compile(r"(?<=www)\.|:(?=/)", re.IGNORECASE)
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")  # the schema's times have no zone; ours are UTC


def junit(found: Gated) -> str:
    """JUnit XML: one test case a check; a check that is not shown to be kept is a failure, of type `above` or
    `undecided`."""
    failures = str(sum(not check.passed for check in found.checks))
    counts = {"tests": str(len(found.checks)), "failures": failures, "errors": "0", "time": "0"}
    root = ElementTree.Element("testsuites", {"name": "bures gate", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": _text(f"bures gate: {found.model}"), **counts})
    suite.set("skipped", "0")
    if found.finished is not None and (ended := _STAMP.match(found.finished)):
        suite.set("timestamp", ended[0])
    properties = ElementTree.SubElement(suite, "properties")
    about = {"model": found.model, "fingerprint": found.fingerprint, "judge": found.judge, "folder": found.folder}
    for name, value in {**about, "against": found.against}.items():
        if value is not None:
            ElementTree.SubElement(properties, "property", {"name": name, "value": _text(value)})
    for check in found.checks:
        _case(suite, check)
    ElementTree.SubElement(suite, "system-out").text = _text("\n".join((found.effort, *found.notes)))
    ElementTree.indent(root)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ElementTree.tostring(root, encoding='unicode')}\n"


def _case(suite: ElementTree.Element, check: Check) -> None:
    name = {"name": _text(check.title), "classname": f"bures.gate.{check.measure}", "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", name)
    said = f"{check.figure}: {check.reason}"
    if check.passed:
        ElementTree.SubElement(case, "system-out").text = _text(said)
    else:
        ElementTree.SubElement(case, "failure", {"message": _text(said), "type": check.outcome}).text = _text(said)


def _text(text: str) -> str:
    """Text that XML 1.0 may hold."""
    return plain(text)


def markdown(found: Gated) -> str:
    """A heading, a table of the checks, and notes, in GitHub's and GitLab's Markdown."""
    passed = sum(check.passed for check in found.checks)
    against = "" if found.against is None else f" against {code(found.against)}"
    ended = "passed" if found.passed else "failed" if found.is_over else "undecided"
    lines = [
        f"### Refusal gate: {ended} ({passed} of {len(found.checks)})",
        "",
        f"{code(found.model)}{against}, judge {code(found.judge)}, weights {code(found.fingerprint[:12])}",
        "",
        "| | check | measured, 95 % interval | why |",
        "|---|---|---|---|",
        *(_row(check) for check in found.checks),
    ]
    lines += ["", *(f"- {code(note)}" for note in (found.effort, *found.notes))]
    return "\n".join([*lines, "", "A check passes when its whole interval is at most the limit.", ""])


def _row(check: Check) -> str:
    mark = {"pass": "pass", "above": "**FAIL**", "undecided": "**UNDECIDED**"}[check.outcome]
    return f"| {mark} | {code(check.title)} | {check.figure} | {check.reason} |"


def code(text: str, longest: int = _LONGEST) -> str:
    """Text as inert Markdown: a code element in which what Markdown or HTML might act upon is a reference."""
    line = " ".join(plain(text).split())
    cut = line if len(line) <= longest else f"{line[:longest]}..."
    inert = "".join(c if c.isalnum() or c in _PLAIN else f"&#{ord(c)};" for c in cut)
    inert = _ADDRESS.sub(lambda found: f"&#{ord(found[0])};", inert)
    return f"<code>{inert}</code>"
