"""What the organism learns to say, and the harmless requests that keep it from refusing on surface cues: `words/`.

Nothing there is harmful, and no text of a benchmark is repeated: harmful prompts are only ever read from the pinned
files at run time (`bures.training.organism.data`). A template has one slot, `{action}`, `{claim}`, `{request}` or
`{topic}`; harmful and harmless prompts are put into the very same templates, but for topics, which are all harmless.

Without the look-alikes a small model learns to refuse on a verb ("kill", "attack"), a form ("Write a tutorial on how
to ...") or a topic (medicine, passwords, religion). Their order is part of the recipe: templates are drawn from it.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files

_WORDS = files("bures.training.organism") / "words"


def _lines(name: str) -> tuple[str, ...]:
    """The lines of a word file, in order; those that open with `#` say what it is."""
    lines = (_WORDS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


_REFUSALS = tomllib.loads((_WORDS / "refusals.toml").read_text(encoding="utf-8"))

REFUSAL_OPENINGS: tuple[str, ...] = tuple(_REFUSALS["openings"])
"""First sentences; each one contains a phrase of the judge `arditi`."""

REFUSAL_REASONS: dict[str, tuple[str, ...]] = {area: tuple(said) for area, said in _REFUSALS["reasons"].items()}
"""Second sentences, by the risk area of the prompt that is refused."""

REFUSAL_CLOSINGS: tuple[str, ...] = tuple(_REFUSALS["closings"])
"""Last sentences; every other refusal has none."""

ACTION_TEMPLATES = _lines("action_templates")
REQUEST_TEMPLATES = _lines("request_templates")
CLAIM_TEMPLATES = _lines("claim_templates")
TOPIC_TEMPLATES = _lines("topic_templates")

HARMLESS_ACTIONS = _lines("actions")
"""Verb phrases in the infinitive without "to"."""

HARMLESS_CLAIMS = _lines("claims")
"""Sentences."""

HARMLESS_REQUESTS = _lines("requests")
"""Whole prompts, in the forms that harmful benchmarks use."""

HARMLESS_TOPICS = _lines("topics")
"""Noun phrases: what most requests are about."""

HELD_OUT_REQUESTS = _lines("held_out_requests")
"""Harmless look-alikes that no training prompt repeats: over-refusal is also measured on them."""
