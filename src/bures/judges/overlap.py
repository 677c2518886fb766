"""Whether an answer is about what was asked: shared words, weighted by how rare they are.

Rarity comes with the trained judge as a table of hashed words (no text): the inverse document frequency
idf(w) = log((N + 1) / (df(w) + 1/2)) over N documents. A word that is not in the table is as rare as a word can be.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from functools import lru_cache

READ_PROMPT, READ_ANSWER = 200, 300
"""Words that are read."""

NAMES: tuple[str, ...] = ("stems", "beginnings", "sum", "reverse", "repeated", "opening", "rarest", "answer", "prompt")
"""What `overlap` measures, in its order; the last two are lengths."""

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+")
_ENDINGS = ("ations", "ation", "ings", "ing", "edly", "ies", "ied", "ers", "ed", "es", "er", "ly", "s", "e", "y")


@lru_cache(maxsize=16)  # several features ask for those of the same prompt and answer
def words(text: str) -> tuple[str, ...]:
    """Lower-case words and numbers, without 's."""
    return tuple(word.removesuffix("'s") for word in _WORD.findall(text.lower().replace("\u2019", "'")))


@lru_cache(maxsize=1 << 15)  # the same few thousand words come again and again
def stem(word: str) -> str:
    """The word without its ending, where at least three letters remain."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def beginning(word: str) -> str:
    """Its first four letters."""
    return word[:4]


@lru_cache(maxsize=1 << 15)
def hashed(word: str) -> int:
    """32 bits that stand for a word."""
    return zlib.crc32(word.encode())


def document_frequencies(documents: Iterable[str]) -> tuple[Counter[str], int]:
    """In how many documents each word occurs, and how many documents there are."""
    counts: Counter[str] = Counter()
    n = 0
    for document in documents:
        counts.update(set(words(document)))
        n += 1
    return counts, n


def rarity(df: int, n: int) -> float:
    """idf of a word that occurs in `df` of `n` documents."""
    return math.log((n + 1) / (df + 0.5))


def overlap(prompt: str, answer: str, idf: Mapping[int, float], unknown: float) -> list[float]:
    """The numbers named by `NAMES`.

    Args:
        prompt: what was asked.
        answer: what was answered.
        idf: rarity of hashed words.
        unknown: rarity of all others.
    """
    asked, said = words(prompt)[:READ_PROMPT], words(answer)[:READ_ANSWER]
    weight = {word: idf.get(hashed(word), unknown) for word in {*asked, *said}}
    counts, asked_once = Counter(said), dict.fromkeys(asked)
    shared = [(word, count) for word, count in counts.items() if word in asked_once]
    rarest = sorted(asked_once, key=lambda word: (-weight[word], word))[:3]
    asked_stems, said_stems = _heaviest(asked_once, weight, stem), _heaviest(counts, weight, stem)
    stems = said_stems.keys()
    return [
        _contained(asked_stems, stems),
        _contained(_heaviest(asked_once, weight, beginning), set(map(beginning, counts))),
        math.log1p(sum(weight[word] for word, _ in shared)),
        _contained(said_stems, asked_stems.keys()),
        math.log1p(sum(weight[word] * count / (count + 1) for word, count in shared)),
        _contained(asked_stems, set(map(stem, said[:30]))),
        sum(stem(word) in stems for word in rarest) / max(1, len(rarest)),
        math.log1p(len(said)),
        math.log1p(len(asked)),
    ]


def _heaviest(those: Iterable[str], weight: Mapping[str, float], key: Callable[[str], str]) -> dict[str, float]:
    """The largest weight of words of the same key."""
    found: dict[str, float] = {}
    for word in those:
        found[key(word)] = max(found.get(key(word), 0.0), weight[word])
    return found


def _contained(those: Mapping[str, float], these: Set[str]) -> float:
    """Share of the weight of `those` words, by their keys, that occurs among `these`."""
    return sum(w for k, w in those.items() if k in these) / (sum(those.values()) or 1.0)
