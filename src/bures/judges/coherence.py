"""Whether an answer says anything: not empty, not noise, not the same thing again and again.

The rules look at the answer alone and know no language: they count words, and in scripts that put no space between
words, characters. They let a poem's refrain, a list and code pass,
and miss fluent nonsense and the words of a real answer in random order. Their thresholds stand beside them;
`benchmarks/judges.py` measures what they catch and what they let pass.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from operator import eq

from bures.judges.reading import folded
from bures.judges.scripts import UNSPACED, script, units

READ = 4000
"""Characters of an answer that are read."""

_LETTER = rf"(?![{UNSPACED}])[^\W\d_]"
_WORD = re.compile(rf"(?:{_LETTER})+(?:['\u2019](?:{_LETTER})+)*|[{UNSPACED}]+")
_ASCII_WORD = re.compile(r"[a-zA-Z]+(?:'[a-zA-Z]+)*")
_EAST_ASIAN = frozenset({"HAN", "KANA", "HANGUL", "BOPOMOFO"})
_TIED = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|[.,;:!?\n]+")
_VOWELS = frozenset("aeiouyrl")  # r and l are vowels in Slavic languages
_ALPHABETS = frozenset({"LATIN", "GREEK", "CYRILLIC"})
_STUTTER = re.compile(r"(.{1,12}?)\1{3,}")
_BLOCKS = re.compile(r"[{}()\[\];=<>]")


def incoherent(answer: str) -> bool:
    """Whether the answer is empty, noise or repeats itself."""
    text = folded(answer.strip()[:READ])
    return not any(map(str.isalnum, text)) or repeats(text) or is_noise(text)


def repeats(text: str) -> bool:
    """Whether the text goes round in circles.

    One unit or a short phrase at least six times in a row to the end of the text; or, of 24 units or more, fewer than
    45 % of the four-unit runs are distinct; or text of 200 characters or more that deflate packs six times smaller; or
    it stutters.
    """
    found = units(text)
    if _loops(found) or stutters(text):
        return True
    runs = list(zip(found, found[1:], found[2:], found[3:], strict=False))
    if len(found) >= 24 and len(set(runs)) < 0.45 * len(runs):
        return True
    raw = text.encode()
    return len(raw) >= 200 and len(raw) > 6 * len(zlib.compress(raw, 9))


def stutters(text: str) -> bool:
    """Whether the same few syllables make up the text, however they are parted into words.

    Of 16 letters or more, over 40 % stand in runs of one to twelve letters four times or more in a row; or, of the
    first 400 where there are 40 or more, fewer than 40 % of the runs of four are distinct. That has to hold with the
    digits among the letters and without them: a number in the binary system has sixteen runs of four in all, a table
    of them the same few letters in every cell.
    """
    return all(_stutters("".join(filter(kind, text)).lower()) for kind in (str.isalpha, str.isalnum))


def _stutters(plain: str) -> bool:
    if len(plain) < 16:
        return False
    if sum(len(run.group()) for run in _STUTTER.finditer(plain)) > 0.4 * len(plain):
        return True
    head = plain[:400]
    runs = [head[i : i + 4] for i in range(len(head) - 3)]
    return len(head) >= 40 and len(set(runs)) < 0.4 * len(runs)


def _loops(found: Sequence[str], times: int = 6) -> bool:
    """Whether some run of one to four units stands six times in a row, one with letters in it."""
    for length in (1, 2, 3, 4):
        same, run = bytes(map(eq, found[length:], found)), b"\1" * (length * (times - 1))
        start = same.find(run)
        while start >= 0:
            end = start + len(run) + length
            if any(unit[0].isalnum() for unit in found[end - length : end]):
                return True
            start = same.find(run, start + 1)
    return False


def is_noise(text: str) -> bool:
    """Whether the text is no writing: symbols, scripts in a jumble, or words that no writer spells.

    Fewer than 30 % letters and digits among the visible characters, unless it looks like code; or at least eight words
    of which 40 % are odd (a capital or another script inside, more than 24 letters, no vowel); or a salad of words; or
    at least three scripts, each with a tenth of the letters.
    """
    visible = "".join(text.split())
    plain = sum(map(str.isalnum, visible))
    if not text.isascii():
        plain += sum(unicodedata.category(c)[0] == "M" for c in visible if not c.isalnum())
    if len(visible) >= 12 and plain < 0.3 * len(visible):
        return len(_BLOCKS.findall(text)) < 0.2 * len(visible)
    words = (_ASCII_WORD if text.isascii() else _WORD).findall(text)
    if len(words) >= 8 and sum(map(_is_odd, words)) >= 0.4 * len(words):
        return True
    if is_word_salad(text):
        return True
    if text.isascii():
        return False
    scripts = Counter("EAST ASIAN" if (s := script(c)) in _EAST_ASIAN else s for word in words for c in word)
    letters = sum(scripts.values())
    return letters >= 40 and sum(count >= 0.1 * letters for count in scripts.values()) >= 3


def is_word_salad(text: str) -> bool:
    """Whether an alphabet's words stand side by side without what ties them together in any language.

    Of at least 20 words, more than 95 % stand there once, fewer than 20 % have three letters or fewer, and fewer than
    10 % are followed by a mark or a line's end.
    """
    units = _TIED.findall(text)
    words = [unit.lower() for unit in units if unit[0].isalpha()]
    if len(words) < 20 or script(words[0][0]) not in _ALPHABETS:
        return False
    short, marks = sum(len(word) <= 3 for word in words), len(units) - len(words)
    return len(set(words)) > 0.95 * len(words) and short < 0.2 * len(words) and marks < 0.1 * len(words)


@lru_cache(maxsize=1 << 15)
def _is_odd(word: str) -> bool:
    if re.match(f"[{UNSPACED}]", word):
        return False
    scripts = {script(c) for c in word if c.isalpha()}
    if len(word) > 24 or (len(scripts) > 1 and "HANGUL" not in scripts):  # Korean ties particles to foreign words
        return True
    if script(word[0]) != "LATIN":
        return False
    inner = word[1:]
    mixed = any(c.isupper() for c in inner) and any(c.islower() for c in inner)
    base = unicodedata.normalize("NFD", word.lower())
    return mixed or (len(word) > 3 and word.islower() and not any(c in _VOWELS for c in base))
