"""Untrusted text on a page: made visible, isolated from the writing around it, and cut to a length.

Escaping for HTML is the template's; this is about what escaping leaves: control characters, directions and length.
"""

from __future__ import annotations

from bures.errors import plain

LONGEST = 4000
"""Characters that any one text on a page may have."""

_TELLS = 60
"""Characters from which on a text that is cut says how much more there is."""

_ISOLATE, _END = "\u2068", "\u2069"
_KEPT = frozenset("\n\u00a0\u202f\u2009" + _ISOLATE + _END)


def clean(text: str, longest: int = LONGEST) -> str:
    """Text whose control and direction characters are visible escapes, and that is not too long.

    Spaces that do not break and direction isolates are kept: the pages' own sentences use them.
    """
    cut = shortened(text, longest)
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() or c in _KEPT else plain(c) for c in cut)


def shortened(text: str, longest: int) -> str:
    """The text, or its beginning and how much more there is."""
    if len(text) <= longest:
        return text
    more = f" ({len(text) - longest:,} more characters)" if longest > _TELLS else ""
    return f"{text[:longest]}…{more}"


def named(text: object, longest: int = 120) -> str:
    """A name from a model or a prompt file, to stand inside a sentence: on one line, and with its own direction."""
    line = plain(shortened(" ".join(str(text).split(" ")), longest).replace("\n", "\\n"))
    return line if line.isascii() else f"{_ISOLATE}{line}{_END}"
