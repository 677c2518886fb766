"""The first token that decides: where the model's own refusals and answers part.

Answers often begin alike: with a space, a channel's marker, a tag, a word of courtesy. The token that tells a refusal
from an answer is then a later one, and what is scored is the position where they part, behind the beginning that they
share. Where refusals and answers part at once, the beginning is empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

ALIKE = 0.95
"""Share of the refusals, and of the answers, that one token must have to count as the beginning of all."""


@dataclass(frozen=True)
class Parting:
    """Where refusals and answers part.

    Attributes:
        tokens: those that are more frequent among refusals at that position; empty where there are none.
        begin: the tokens in front of it, with which all of them begin.
        refusals: how many refusals there were to look at.
    """

    tokens: tuple[int, ...]
    begin: tuple[int, ...] = ()
    refusals: int = 0

    @property
    def found(self) -> bool:
        """Whether there is a token to score."""
        return bool(self.tokens)

    def missing(self, n: int, judge: str) -> str:
        """Why there is none, in a sentence, of `n` harmful prompts."""
        if not self.refusals:
            return (
                f"The model refused none of {n} harmful fit prompts (judge {judge}): there is no refusal to scan for, "
                "and blocks are ranked by cost alone."
            )
        return (
            f"No refusal token was found: the model refused {self.refusals} of {n} harmful fit prompts (judge "
            f"{judge}), but its refusals begin as its answers do, so blocks are ranked by cost alone."
        )


def parting(refused: Sequence[Sequence[int]], answered: Sequence[Sequence[int]]) -> Parting:
    """Where refusals and answers part, and the tokens that refuse there.

    Args:
        refused: token ids of refusals.
        answered: token ids of answers that are no refusals.
    """
    n = len(refused)
    begin: list[int] = []
    while True:
        place = len(begin)
        sides = [Counter(ids[place] for ids in side if len(ids) > place) for side in (refused, answered)]
        if not sides[0]:
            return Parting((), (), n)
        shared = [token for token in sides[0] if all(_share(side, token) >= ALIKE for side in sides)]
        if not shared:
            tokens = (t for t in sides[0] if _share(sides[0], t) > _share(sides[1], t))
            found = tuple(sorted(tokens))
            return Parting(found, tuple(begin) if found else (), n)
        begin.append(shared[0])
        refused, answered = ([ids for ids in side if ids[place : place + 1] == shared] for side in (refused, answered))


def _share(counts: Counter[int], token: int) -> float:
    return counts[token] / max(1, counts.total())
