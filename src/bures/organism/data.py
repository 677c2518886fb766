"""Training prompts of the organism: Do-Not-Answer against harmless look-alikes, both in the same templates.

Harmful: questions of Do-Not-Answer (Wang et al. 2024, arXiv 2308.13387) whose intents name a harm; those that merely
ask for advice, for an organisation's figures or for a machine's feelings are left out, because refusing them would be
over-refusal. Harmless: the Alpaca part `alpaca:organism`, and the look-alikes and everyday topics written for this
project. Many benchmark prompts are imperatives, so a question such as "How do I <action>?" is also put as "Write a
tutorial on how to <action>." and so on, on both sides.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bures import assets
from bures.errors import PromptError
from bures.organism.config import OrganismConfig
from bures.organism.lookalikes import HARMLESS_ACTIONS, HARMLESS_REQUESTS
from bures.organism.texts import (
    ACTION_TEMPLATES,
    REFUSAL_CLOSINGS,
    REFUSAL_OPENINGS,
    REFUSAL_REASONS,
    REQUEST_TEMPLATES,
    TOPIC_TEMPLATES,
)
from bures.organism.topics import HARMLESS_TOPICS
from bures.prompts import PromptSet, load_prompts, require_disjoint

_MILD = frozenset({"S002", "S002med", "S002fin", "S002legal", "S001mis", "S009private", "C009"})
_PERSONIFYING = frozenset({"C006", "C006emotion", "C006temporal"})

_ACTION = re.compile(
    r"(?:how (?:can|do|should|could|would) (?:i|we|you|one|someone|people|a person) "
    r"|how to "
    r"|(?:can|could) you (?:please )?(?:help me (?:to )?|teach me (?:how )?to |tell me how to |show me how to )?"
    r"|what(?:'s| is| are) the (?:best|easiest|most effective) ways? to "
    r"|what are (?:some|the) (?:\w+ )?ways (?:i can |to )"
    r"|help me (?:to )?|i want to )"
    r"(?P<action>.+?)[?.!]*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class HarmfulPrompt:
    """A harmful training prompt and the risk area (a key of `REFUSAL_REASONS`) that it comes from."""

    text: str
    area: str


def names_a_harm(intents: Iterable[str]) -> bool:
    """Whether a Do-Not-Answer prompt with these intent codes is trained on.

    Left out: what has no other intent than advice (S002*), a misconception (S001mis) or the inner matters of an
    organisation (S009private), which only context tells from ordinary questions; and what personifies the assistant
    (C006*). Self-harm (S006sh) always counts.
    """
    codes = frozenset(intents)
    if "S006sh" in codes:
        return True
    return not codes & _PERSONIFYING and not codes <= _MILD


def action_of(prompt: str) -> str | None:
    """The action that a question or plea names ("How do I tie a bowline?" -> "tie a bowline"), or None."""
    found = _ACTION.fullmatch(" ".join(prompt.split()))
    return found["action"] if found else None


def variants(prompt: str, rng: random.Random, config: OrganismConfig) -> list[str]:
    """The prompt itself, then the same in some templates."""
    action = action_of(prompt)
    if action is not None:
        return [prompt, *(t.format(action=action) for t in rng.sample(ACTION_TEMPLATES, config.action_templates))]
    return [prompt, *(t.format(request=prompt) for t in rng.sample(REQUEST_TEMPLATES, config.request_templates))]


def refusal(area: str, rng: random.Random) -> str:
    """A short refusal; its first sentence is one of `REFUSAL_OPENINGS`."""
    sentences = [rng.choice(REFUSAL_OPENINGS), rng.choice(REFUSAL_REASONS[area])]
    if rng.random() < 0.5:
        sentences.append(rng.choice(REFUSAL_CLOSINGS))
    return " ".join(sentences)


def harmful_prompts(config: OrganismConfig, rng: random.Random) -> tuple[HarmfulPrompt, ...]:
    """Do-Not-Answer, filtered by intent, with variants; fetched on first use.

    Raises:
        AssetError: the files cannot be fetched.
        PromptError: a prompt is also in HarmBench, on which the organism is measured.
    """
    found: dict[str, HarmfulPrompt] = {}
    for name in sorted(key for key in assets.ASSETS if key.startswith("do-not-answer-")):
        area = name.removeprefix("do-not-answer-")
        for line in assets.fetch(name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if not names_a_harm(row["intents"]):
                continue
            for text in variants(row["prompt"], rng, config):
                found.setdefault(text, HarmfulPrompt(text, area))
    kept = tuple(prompt for prompt in found.values() if len(prompt.text) <= config.max_characters)
    require_disjoint(training=prompt_set("organism:harmful", [p.text for p in kept]), test=load_prompts("harmbench"))
    return kept


def harmless_prompts(config: OrganismConfig, rng: random.Random) -> tuple[str, ...]:
    """Alpaca's training part with variants, and the look-alikes in templates.

    Raises:
        AssetError: the file cannot be fetched.
        PromptError: a prompt is also in the parts of Alpaca on which choices are made or figures reported.
    """
    found = [text for prompt in load_prompts("alpaca:organism") for text in variants(prompt, rng, config)]
    for action in HARMLESS_ACTIONS:
        found += [t.format(action=action) for t in rng.sample(ACTION_TEMPLATES, config.lookalike_templates)]
    for request in HARMLESS_REQUESTS:
        found += [request, rng.choice(REQUEST_TEMPLATES).format(request=request)]
    for topic in HARMLESS_TOPICS:
        found += [t.format(topic=topic) for t in rng.sample(TOPIC_TEMPLATES, config.topic_templates)]
    kept = [text for text in dict.fromkeys(found) if len(text) <= config.max_characters]
    require_disjoint(
        training=prompt_set("organism:harmless", kept),
        select=load_prompts("alpaca:select"),
        test=load_prompts("alpaca:test"),
    )
    return tuple(kept)


def prompt_set(name: str, texts: Sequence[str]) -> PromptSet:
    """A `PromptSet` of training prompts, for hashes and disjointness.

    Raises:
        PromptError: there are none.
    """
    if not texts:
        raise PromptError(f"{name} is empty: expected at least one prompt; raise max_characters")
    return PromptSet(name, "bures.organism", None, tuple(texts))
