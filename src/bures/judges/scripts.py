"""Writing systems of characters, and the words of a text in any of them."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_HAN = frozenset({"CJK", "KANGXI", "IDEOGRAPHIC"})
_KANA = frozenset({"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH"})

UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Characters of the scripts that put no space between words, for a regular expression's class."""

_UNIT = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+(?:['\u2019](?:(?![{UNSPACED}])\w)+)*|[^\w\s]+")

_ASCII_UNIT = re.compile(r"\w+(?:'\w+)*|[^\w\s]+")


@lru_cache(maxsize=8192)
def script(character: str) -> str:
    """The writing system of a letter: LATIN, CYRILLIC, HAN, KANA, ..., the first word of the character's name."""
    name = unicodedata.name(character, "?").partition(" ")[0]
    if name in _HAN:
        return "HAN"
    return "KANA" if name in _KANA else name


def units(text: str) -> list[str]:
    """Words, single characters of scripts without spaces, and runs of marks, in lower case."""
    if text.isascii():
        return _ASCII_UNIT.findall(text.lower())
    return [unit.lower() for unit in _UNIT.findall(text)]
