"""What a hardened model learns to say, and the openers that an attacker puts in front of it: `words/`.

Written for this project; no harmful text is among it. Many openings with different first words: refusals that all
begin alike are one direction at one token, which an ablation takes away. A part of the refusals is *extended* (Shairah
et al. 2025, arXiv 2505.19056: topic, refusal, reason), so that the decision is spread over many tokens.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from importlib.resources import files

_WORDS = files("bures.training.harden") / "words"
_SAID = tomllib.loads((_WORDS / "refusals.toml").read_text(encoding="utf-8"))

OPENINGS: tuple[str, ...] = tuple(_SAID["openings"])
"""First sentences of short refusals."""

CLOSINGS: tuple[str, ...] = tuple(_SAID["closings"])
"""Last sentences; every third refusal has one."""

TURNS: tuple[str, ...] = tuple(_SAID["turns"])
"""Second sentences of extended refusals: they refuse."""

REASONS: dict[str, tuple[str, ...]] = {area: tuple(said) for area, said in _SAID["reasons"].items()}
"""Reasons, by risk area; `other` where none is known."""

TOPICS: dict[str, tuple[str, ...]] = {area: tuple(said) for area, said in _SAID["topics"].items()}
"""First sentences of extended refusals: neutral, on the subject of the risk area."""

OPENERS: tuple[str, ...] = tuple(
    line
    for line in (_WORDS / "openers.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
"""Affirmative beginnings of an answer, without content."""

SHORTEST, LONGEST = 3, 15
"""Tokens of an opener."""

OTHER = "other"


def refusal(area: str, rng: random.Random, *, extended_share: float) -> str:
    """A refusal of a prompt of a risk area; extended with that probability."""
    area = area if area in REASONS else OTHER
    if rng.random() < extended_share:
        said = [rng.choice(TOPICS[area]), rng.choice(TURNS), rng.choice(REASONS[area])]
    else:
        said = [rng.choice(OPENINGS), rng.choice(REASONS[area])]
    if rng.random() < 1 / 3:
        said.append(rng.choice(CLOSINGS))
    return " ".join(said)


def cut(opener: Sequence[int], rng: random.Random) -> tuple[int, ...]:
    """The first 3 to 15 tokens of an opener, or all where there are fewer."""
    return tuple(opener[: rng.randint(SHORTEST, max(SHORTEST, min(LONGEST, len(opener))))])
