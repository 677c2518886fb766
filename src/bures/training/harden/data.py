"""What a model is hardened on: harmful prompts to refuse, harmless ones and look-alikes to leave alone.

Only shares that fit are read: of a pinned set with parts its `fit`, of any other source what it is. Whatever repeats a
prompt of a set that measures or chooses is left out (`bures.training.overlap`), and how many were is in the card.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bures.data.prompts import PARTS, Corpus, load_corpus, load_prompts
from bures.errors import AssetError, PromptError
from bures.training.harden.config import HardenConfig
from bures.training.harden.refusals import OTHER
from bures.training.organism.config import OrganismConfig
from bures.training.organism.data import HarmfulPrompt, harmful_prompts, harmless_prompts
from bures.training.organism.texts import (
    ACTION_TEMPLATES,
    CLAIM_TEMPLATES,
    HARMLESS_ACTIONS,
    HARMLESS_CLAIMS,
    HARMLESS_REQUESTS,
    HELD_OUT_REQUESTS,
    REQUEST_TEMPLATES,
)
from bures.training.overlap import Measuring, apart

ORGANISM = "organism"
"""Source of prompts: those of the organism's training, in templates."""

MEASURES = (
    "harmbench",
    "advbench",
    "pyrit:select",
    "spikee",
    "alpaca:select",
    "alpaca:test",
    "jailbreakbench:select",
    "jailbreakbench:test",
    "jailbreakbench-benign:select",
    "jailbreakbench-benign:test",
    "strongreject:select",
    "strongreject:test",
    "xstest",
    "xstest-unsafe",
)
"""Prompt sets that measure or choose. AdvBench is one of them: it is what an audit's attacker fits on."""

OF_THE_ORGANISM = "organism:lookalikes"
"""The look-alikes on which the organism's over-refusal is measured."""


@dataclass(frozen=True)
class Data:
    """The training prompts.

    Attributes:
        harmful: to be refused.
        ordinary: harmless ones.
        lookalikes: harmless ones in the words of harmful ones.
        dropped: measuring set -> training prompts left out because they repeat one of its own.
        missing: measuring sets that could not be read, so that nothing is known of an overlap with them.
        text: running text, if any.
    """

    harmful: tuple[HarmfulPrompt, ...]
    ordinary: tuple[str, ...]
    lookalikes: tuple[str, ...]
    dropped: dict[str, int]
    missing: tuple[str, ...]
    text: Corpus | None = None

    def describe(self) -> dict[str, Any]:
        """What the recipe says of them: no text."""
        counts = {"harmful": len(self.harmful), "ordinary": len(self.ordinary), "lookalikes": len(self.lookalikes)}
        texts = [[each.text for each in self.harmful], self.ordinary, self.lookalikes]
        digest = hashlib.sha256(json.dumps(texts).encode("ascii")).hexdigest()
        text = {} if self.text is None else {"text": {"name": self.text.name, "sha256": self.text.sha256}}
        return {
            **counts,
            **text,
            "sha256": digest,
            "dropped_as_overlapping": self.dropped,
            "overlap_not_checked_against": list(self.missing),
        }


def training_data(config: HardenConfig, rng: random.Random) -> Data:
    """The training prompts of a configuration.

    Raises:
        AssetError: a pinned source cannot be fetched.
        PromptError: a source or the text cannot be read, or nothing is left of a side.
    """
    measuring, missing = _measuring(config.apart_from)
    dropped: Counter[str] = Counter()

    def left(texts: Sequence[str], what: str) -> list[int]:
        short = [place for place, text in enumerate(texts) if len(text) <= config.max_characters]
        kept = apart([texts[place] for place in short], measuring)
        dropped.update(kept.dropped)
        if not kept.places:
            raise PromptError(
                f"no {what} training prompt of {len(texts)} is left that is short enough and repeats none of a set "
                "that measures; give others, or raise --max-characters"
            )
        return [short[place] for place in kept.places]

    harmful, harmless = _harmful(config, rng), _harmless(config, rng)
    similar = _lookalikes()
    lookalikes = [text for text in harmless if text in similar] or sorted(similar)
    ordinary = [text for text in harmless if text not in similar]
    return Data(
        harmful=tuple(harmful[place] for place in left([each.text for each in harmful], "harmful")),
        ordinary=tuple(ordinary[place] for place in left(ordinary, "harmless")),
        lookalikes=tuple(lookalikes[place] for place in left(lookalikes, "look-alike")),
        dropped=dict(sorted(dropped.items())),
        missing=missing,
        text=None if config.text is None else load_corpus(config.text),
    )


def _measuring(further: Sequence[str]) -> tuple[Measuring, tuple[str, ...]]:
    """What measures, and the pinned sets of it that cannot be fetched here; one that the user names has to be read."""
    sets: dict[str, Sequence[str]] = {OF_THE_ORGANISM: HELD_OUT_REQUESTS}
    missing: list[str] = []
    for name in MEASURES:
        try:
            sets[name] = load_prompts(name).texts
        except AssetError:
            missing.append(name)
    sets |= {name: load_prompts(name).texts for name in further}
    return Measuring(sets), tuple(missing)


def _harmful(config: HardenConfig, rng: random.Random) -> list[HarmfulPrompt]:
    found: list[HarmfulPrompt] = []
    for source in config.harmful:
        if source == ORGANISM:
            found += harmful_prompts(OrganismConfig(max_characters=config.max_characters), rng)
        else:
            found += [HarmfulPrompt(text, OTHER) for text in load_prompts(fitting(source)).texts]
    return list({each.text: each for each in found}.values())


def _harmless(config: HardenConfig, rng: random.Random) -> list[str]:
    found: list[str] = []
    for source in config.harmless:
        if source == ORGANISM:
            found += harmless_prompts(OrganismConfig(max_characters=config.max_characters), rng)
        else:
            found += load_prompts(fitting(source)).texts
    return list(dict.fromkeys(found))


def fitting(source: str) -> str:
    """A source, narrowed to its share to fit on where it is a pinned set that has one."""
    return f"{source}:fit" if "fit" in PARTS.get(source, ()) else source


def _lookalikes() -> frozenset[str]:
    """Every look-alike that was written for the project, in every template."""
    actions = (template.format(action=action) for template in ACTION_TEMPLATES for action in HARMLESS_ACTIONS)
    claims = (template.format(claim=claim) for template in CLAIM_TEMPLATES for claim in HARMLESS_CLAIMS)
    asked = (template.format(request=request) for template in REQUEST_TEMPLATES for request in HARMLESS_REQUESTS)
    return frozenset((*actions, *claims, *asked, *HARMLESS_REQUESTS))
