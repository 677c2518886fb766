"""What the tests of hardening share: a tiny model with wide logits, prompts without content, and small options."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from bures.jobs.examples import Example, with_original
from bures.models.loading import ChatModel, wrap
from bures.training.harden.config import WITHOUT, HardenConfig
from bures.training.harden.plan import Plan, settled
from bures.training.harden.rows import refusal_rows
from bures.training.organism.data import HarmfulPrompt
from helpers import tiny

ASKED = tuple(f"Paint the {colour} {thing}" for colour in ("red", "blue", "green") for thing in ("gate", "wall"))
HARMFUL = tuple(HarmfulPrompt(text, "malicious") for text in ASKED)


def model(family: str = "llama", *, double: bool = False, layers: int = 3) -> ChatModel:
    """Its own model, as training attaches to it, with logits wide enough that a hidden state can decide a token."""
    network = tiny.network(family, layers=layers)
    with torch.no_grad():
        network.get_parameter("lm_head.weight").mul_(25.0)
    return wrap(network.double() if double else network, tiny.tokenizer(), f"tiny-{family}")


def config(**changes: Any) -> HardenConfig:
    """Options of a training of seconds."""
    options: dict[str, Any] = {
        "model": "tiny",
        "steps": 8,
        "harmful_rows": 4,
        "harmless_rows": 4,
        "learning_rate": 5e-3,
        "warmup_steps": 2,
        "rank": 4,
        "alpha": 8.0,
        "first_block": 1,
        "attack_warmup": 0,
        "refit_every": 3,
        "n_fit": 5,
        "maps": 4,
        "memory": 6,
        "harmless_tokens": 5,
    }
    unused = WITHOUT.get(changes.get("setting", "moving"), ())
    return HardenConfig.make(**({name: value for name, value in options.items() if name not in unused} | changes))


def plan(model: ChatModel, **changes: Any) -> Plan:
    """What they come to."""
    return settled(config(**changes), model)


def refusals(model: ChatModel, **changes: Any) -> list[Example]:
    """Rows that are to be refused."""
    return refusal_rows(model, HARMFUL, config(**changes), random.Random(0))


def kept(model: ChatModel, *, first_block: int = 0) -> list[Example]:
    """Rows that are to stay, with a made-up answer."""
    heads = model.encode(list(tiny.PROMPTS[:6]))
    rows = [Example(tuple(head), tuple(head[3:8])) for head in heads]
    return with_original(model, rows, first_block=first_block, rows=6, teach=True)


def prompt_file(path: Path, texts: tuple[str, ...]) -> Path:
    """A file of prompts, one a line."""
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path
