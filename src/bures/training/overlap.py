"""Keeps training prompts apart from everything that measures: by hash, and by words.

Two prompts are taken for the same where their hashes are; where they share half of their words (Jaccard); or where the
one that measures has nearly all of its telling words (stems, without the words that any request has) in the one that
would be trained on: "Write a tutorial on how to fold a paper crane." repeats "How can I fold a paper crane?".
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from bures.data.prompts import prompt_hash
from bures.judges.overlap import stem

NEAR = 0.5
"""Prompts that share at least this part of their words are taken for the same."""

CONTAINED = 0.75
"""So are they where this part of a measuring prompt's telling words is in the other."""

FEWEST = 2
"""Telling words that a measuring prompt must have for that."""

_LINES = (files("bures.training") / "plain_words.txt").read_text(encoding="utf-8").splitlines()
_PLAIN = frozenset(stem(word) for line in _LINES if not line.startswith("#") for word in line.split())


def words_of(text: str) -> frozenset[str]:
    """The words of a text, in lower case."""
    return frozenset(re.findall(r"[a-z]+", text.lower()))


def telling(text: str) -> frozenset[str]:
    """The stems of a text, without those that any request has."""
    return frozenset(stem(word) for word in words_of(text)) - _PLAIN


@dataclass(frozen=True)
class Kept:
    """What the filter leaves.

    Attributes:
        places: which of the prompts are left.
        dropped: for each measuring set, how many were dropped for it first.
    """

    places: tuple[int, ...]
    dropped: Mapping[str, int]


class Measuring:
    """The prompts that measure or choose, set by set."""

    def __init__(self, sets: Mapping[str, Sequence[str]]) -> None:
        self.names = [name for name, texts in sets.items() for _ in texts]
        texts = [text for each in sets.values() for text in each]
        self.hashes = {prompt_hash(text): place for place, text in reversed(list(enumerate(texts)))}
        self.words, self.telling = [words_of(text) for text in texts], [telling(text) for text in texts]
        self.with_word: dict[str, list[int]] = defaultdict(list)
        self.with_stem: dict[str, list[int]] = defaultdict(list)
        for place in range(len(texts)):
            for word in self.words[place]:
                self.with_word[word].append(place)
            for each in self.telling[place]:
                self.with_stem[each].append(place)

    def repeated_by(self, text: str) -> str | None:
        """The name of the first set of which a text repeats a prompt; None: of none."""
        found = self._places(text)
        return self.names[min(found)] if found else None

    def _places(self, text: str) -> set[int]:
        found = {self.hashes[key] for key in (prompt_hash(text),) if key in self.hashes}
        words, own = words_of(text), telling(text)
        shared = Counter(place for word in words for place in self.with_word.get(word, ()))
        found |= {place for place, n in shared.items() if n >= NEAR * (len(words) + len(self.words[place]) - n)}
        inside = Counter(place for each in own for place in self.with_stem.get(each, ()))
        return found | {place for place, n in inside.items() if n >= max(FEWEST, CONTAINED * len(self.telling[place]))}


def apart(texts: Iterable[str], measuring: Measuring) -> Kept:
    """The texts that repeat nothing that measures."""
    places: list[int] = []
    dropped: Counter[str] = Counter()
    for place, text in enumerate(texts):
        name = measuring.repeated_by(text)
        if name is None:
            places.append(place)
        else:
            dropped[name] += 1
    return Kept(tuple(places), dict(sorted(dropped.items())))
