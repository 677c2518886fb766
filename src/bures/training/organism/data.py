"""Training prompts of the organism: harmful ones against harmless look-alikes, both in the same templates.

Harmful: questions of Do-Not-Answer (Wang et al. 2024, arXiv 2308.13387) whose intents name a harm; those that merely
ask for advice, for an organisation's figures or for a machine's feelings are left out, because refusing them would be
over-refusal; and the objectives `pyrit:organism` (PyRIT, MIT licence). What nearly repeats a prompt of HarmBench, on
which the organism is measured, or of the parts on which it is chosen is left out. Harmless: the Alpaca part
`alpaca:organism`, first messages of conversations (`chat`), and the look-alikes, claims and everyday topics written for
this project. Many benchmark prompts are imperatives, so a question such as "How do I <action>?" is also put as "Write a
tutorial on how to <action>." and so on, on both sides.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bures.data import assets
from bures.data.pinned_sets import assets_of
from bures.data.prompts import N_BUCKETS, PARTS, PromptSet, load_prompts, prompt_hash, require_disjoint
from bures.errors import PromptError
from bures.training.organism.config import OrganismConfig
from bures.training.organism.texts import (
    ACTION_TEMPLATES,
    CLAIM_TEMPLATES,
    HARMLESS_ACTIONS,
    HARMLESS_CLAIMS,
    HARMLESS_REQUESTS,
    HARMLESS_TOPICS,
    REFUSAL_CLOSINGS,
    REFUSAL_OPENINGS,
    REFUSAL_REASONS,
    REQUEST_TEMPLATES,
    TOPIC_TEMPLATES,
)

MEASURED = ("harmbench",)
"""Harmful prompt sets on which the finished organism is measured."""

CHOSEN_ON = ("pyrit:select", "spikee", "advbench")
"""Harmful prompt sets on which its training options were chosen."""

NEAR = 0.5
"""Two prompts that share at least this part of their words (Jaccard) are taken for the same."""

AREAS = {
    "bias": "discrimination",
    "exploits": "malicious",
    "hate-speech": "discrimination",
    "info-integrity": "misinformation",
    "privacy": "information",
    "representational": "discrimination",
    "self-harm": "human",
    "sexual": "sexual",
    "violence": "malicious",
}
"""Risk area of each area of PyRIT's objectives."""

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

_CLAIM = re.compile(
    r".*?\b(?:shows?|prov(?:e|es|ing)|claim(?:s|ing)?|argu(?:e|es|ing)|sa(?:y|ys|ying)|stat(?:e|es|ing)|fact|evidence"
    r"|(?:convince|persuade) \w+|explain(?:ing)?|idea|believe|suggests?) that (?P<claim>[^.?!]+)(?:[.?!].*)?",
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


def claim_of(prompt: str) -> str | None:
    """The claim that a prompt wants spread ("Prove that tea is blue." -> "tea is blue"), or None."""
    found = _CLAIM.fullmatch(" ".join(prompt.split()))
    return found["claim"] if found else None


def variants(prompt: str, rng: random.Random, config: OrganismConfig) -> list[str]:
    """The prompt itself, then the same in some templates."""
    action, claim = action_of(prompt), claim_of(prompt)
    if claim is not None:
        return [prompt, *(t.format(claim=claim) for t in rng.sample(CLAIM_TEMPLATES, config.claim_templates))]
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
    """Do-Not-Answer, filtered by intent, and PyRIT's objectives, with variants; fetched on first use.

    Raises:
        AssetError: the files cannot be fetched.
        PromptError: a prompt is also in HarmBench, on which the organism is measured.
    """
    held_out = [_words(prompt) for name in (*MEASURED, *CHOSEN_ON) for prompt in load_prompts(name).texts]
    found: dict[str, HarmfulPrompt] = {}
    for text, area in (*_do_not_answer(), *_objectives()):
        if _repeats(text, held_out):
            continue
        for variant in variants(text, rng, config):
            found.setdefault(variant, HarmfulPrompt(variant, area))
    kept = tuple(prompt for prompt in found.values() if len(prompt.text) <= config.max_characters)
    training = prompt_set("organism:harmful", [p.text for p in kept])
    require_disjoint(training=training, **{name: load_prompts(name) for name in (*MEASURED, *CHOSEN_ON)})
    return kept


def _do_not_answer() -> Iterator[tuple[str, str]]:
    for name in assets_of("do-not-answer"):
        for line in assets.fetch(name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if names_a_harm(row["intents"]):
                yield row["prompt"], name.removeprefix("do-not-answer-")


def _objectives() -> Iterator[tuple[str, str]]:
    found = load_prompts("pyrit:organism")
    for text, category in zip(found.texts, found.categories, strict=True):
        yield text, AREAS[str(category).partition("-")[2]]


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", text.lower()))


def _repeats(text: str, others: Iterable[frozenset[str]]) -> bool:
    words = _words(text)
    return any(len(words & other) >= NEAR * max(1, len(words | other)) for other in others)


def harmless_prompts(config: OrganismConfig, rng: random.Random) -> tuple[str, ...]:
    """Alpaca's training part with variants, first messages of conversations, and the look-alikes in templates.

    Raises:
        AssetError: the file cannot be fetched.
        PromptError: a prompt is also in the parts of Alpaca on which choices are made or figures reported.
    """
    found = [text for prompt in load_prompts("alpaca:organism").texts for text in variants(prompt, rng, config)]
    held_out = [_words(prompt) for name in ("alpaca:select", "alpaca:test") for prompt in load_prompts(name).texts]
    chat = load_prompts("chat").texts
    found += [*_alpaca_with_input(), *(text for text in chat if not _repeats(text, held_out))]
    for action in HARMLESS_ACTIONS:
        found += [t.format(action=action) for t in rng.sample(ACTION_TEMPLATES, config.lookalike_templates)]
    for request in HARMLESS_REQUESTS:
        found += [request, rng.choice(REQUEST_TEMPLATES).format(request=request)]
    for claim in HARMLESS_CLAIMS:
        found += [t.format(claim=claim) for t in rng.sample(CLAIM_TEMPLATES, config.claim_templates)]
    for topic in HARMLESS_TOPICS:
        found += [t.format(topic=topic) for t in rng.sample(TOPIC_TEMPLATES, config.topic_templates)]
    kept = [text for text in dict.fromkeys(found) if len(text) <= config.max_characters]
    require_disjoint(
        training=prompt_set("organism:harmless", kept),
        select=load_prompts("alpaca:select"),
        test=load_prompts("alpaca:test"),
    )
    return tuple(kept)


def _alpaca_with_input() -> list[str]:
    """Alpaca's instructions that come with an input, both as one prompt, in the hash buckets of `alpaca:organism`."""
    rows = json.loads(assets.fetch("alpaca").read_text(encoding="utf-8"))
    texts = [f"{row['instruction']}\n{row['input']}" for row in rows if row["input"].strip()]
    return [text for text in texts if int(prompt_hash(text), 16) % N_BUCKETS in PARTS["alpaca"]["organism"]]


def prompt_set(name: str, texts: Sequence[str]) -> PromptSet:
    """A `PromptSet` of training prompts, for hashes and disjointness.

    Raises:
        PromptError: there are none.
    """
    if not texts:
        raise PromptError(f"{name} is empty: expected at least one prompt; raise max_characters")
    return PromptSet(name, "bures.training.organism", None, tuple(texts))
