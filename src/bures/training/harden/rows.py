"""The training rows of a hardening: refusals, some behind an opener, and the model's own harmless answers.

The answers are generated once, greedily, and kept in the training's folder; what the original model computes of every
row is computed anew where a killed training goes on.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from bures import durable
from bures.data.corpora import Corpus
from bures.errors import PromptError, RunError
from bures.jobs.examples import Example, answer_states, kept_examples, spoken, with_original
from bures.jobs.metrics import corpus_windows
from bures.jobs.progress import Progress
from bures.judges.by_name import JUDGES
from bures.models.loading import ChatModel
from bures.models.probing import tolerance
from bures.training.harden.config import HardenConfig
from bures.training.harden.data import Data
from bures.training.harden.own_answers import Own
from bures.training.harden.plan import Plan
from bures.training.harden.refusals import OPENERS, cut, refusal
from bures.training.lora import make_folder
from bures.training.organism.data import HarmfulPrompt

STREAM_BYTES = 2_000_000_000
"""Most memory that the streams of all rows may take; where they would take more, passes are whole."""

PIECE, HEAD, MOST_TEXT = 48, 8, 400_000
"""Tokens of a piece of text, of its beginning, and of the text that are read at most."""

JUDGE = "arditi"
"""Says which of the original model's harmless answers are refusals, which are not kept in place."""


@dataclass(frozen=True)
class Rows:
    """The training rows, and the block at which their passes may begin."""

    harmful: Sequence[Example]
    ordinary: Sequence[Example]
    lookalikes: Sequence[Example]
    text: Sequence[Example] = ()
    entry: int = 0


def refusal_rows(
    model: ChatModel,
    prompts: Sequence[HarmfulPrompt],
    config: HardenConfig,
    rng: random.Random,
    own: Own | None = None,
) -> list[Example]:
    """Each harmful prompt with a refusal, at times behind the beginning of an affirmative answer, or of its own."""
    tokenizer = cast("Any", model.tokenizer)
    openers = [tokenizer(opener, add_special_tokens=False)["input_ids"] for opener in OPENERS]
    rows: list[Example] = []
    for number, (prompt, head) in enumerate(zip(prompts, model.encode([each.text for each in prompts]), strict=True)):
        said = refusal(prompt.area, rng, extended_share=config.extended_share)
        begun = cut(rng.choice(openers), rng) if rng.random() < config.opener_share else ()
        if own is not None and not begun:
            begun = own.beginning(number, rng)
        answer = spoken(model, f" {said}" if begun else said)
        rows.append(Example((*head, *begun), tuple(answer), begun=len(begun)))
    return rows


def pieces(model: ChatModel, text: Corpus | None, plan: Plan, rng: random.Random) -> list[Example]:
    """Pieces of running text without a template, as many as a training comes to; of each all but the beginning is kept.

    Raises:
        ConfigError: the text is shorter than one piece.
    """
    if text is None:
        return []
    found = corpus_windows(model, text.text, max_tokens=MOST_TEXT, window=PIECE)
    drawn = rng.sample(found, min(len(found), plan.steps * plan.text_rows))
    return [Example(tuple(piece[:HEAD]), tuple(piece[HEAD:])) for piece in drawn]


def sampled(data: Data, plan: Plan, rng: random.Random) -> Data:
    """The data without prompts that a training of this length never comes to."""
    half = plan.harmless_rows // 2

    def some(side: Sequence[Any], rows: int) -> tuple[Any, ...]:
        return tuple(rng.sample(list(side), min(len(side), plan.steps * max(1, rows))))

    return Data(
        harmful=some(data.harmful, plan.harmful_rows),
        ordinary=some(data.ordinary, plan.harmless_rows - half),
        lookalikes=some(data.lookalikes, half),
        dropped=data.dropped,
        missing=data.missing,
        text=data.text,
    )


def answered(
    model: ChatModel, data: Data, config: HardenConfig, file: Path, progress: Progress
) -> tuple[list[Example], list[Example]]:
    """The model's own answers to ordinary prompts and look-alikes, from the file if it holds them, else into it.

    Raises:
        PromptError: the model refuses all prompts of a side.
        RunError: the file is damaged or cannot be written.
    """
    made_of = [model.fingerprint(), config.harmless_tokens, data.ordinary, data.lookalikes]
    key = hashlib.sha256(json.dumps(made_of).encode("ascii")).hexdigest()
    held = _read(file)
    if held is None or held["key"] != key:
        answer = partial(kept_examples, model, tokens=config.harmless_tokens, judge=JUDGES[JUDGE], progress=progress)
        sides = [answer(side) for side in (data.ordinary, data.lookalikes)]
        held = {"key": key, "sides": [[[row.prompt, row.answer] for row in side] for side in sides]}
        make_folder(file.parent)
        try:
            durable.write(file, json.dumps(held))
        except OSError as error:
            raise RunError(f"cannot write {file}: {error.strerror}; choose another folder with --out") from error
    kept: list[list[tuple[list[int], list[int]]]] = cast("Any", held["sides"])
    ordinary, lookalikes = ([Example(tuple(p), tuple(a)) for p, a in side] for side in kept)
    if not ordinary or not lookalikes:
        raise PromptError(f"{model.name} refuses every harmless training prompt of a side; nothing is left to keep")
    return ordinary, lookalikes


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return durable.read_object(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {file}; remove {file.parent} to begin anew") from error


def with_streams(model: ChatModel, rows: Rows, plan: Plan, progress: Progress) -> Rows:
    """The rows with what the original model computes of them; passes begin at the first adapted block if they may."""
    sides = (rows.harmful, rows.ordinary, rows.lookalikes, rows.text)
    size = sum(map(len, (row for side in sides for row in side))) * model.d_model * model.hf.dtype.itemsize
    entry = plan.first_block if size <= STREAM_BYTES else 0
    if entry and not _may_enter(model, list(rows.harmful[:4]), entry):
        entry = 0
    for block in range(plan.first_block, len(model.blocks) - 1):  # tried now, so that it does not depend on the step
        model.entries.behind[block] = _may_enter(model, list(rows.harmful[:1]), block + 1)
    prepare = partial(
        with_original, model, first_block=entry, rows=plan.harmful_rows + plan.harmless_rows, progress=progress
    )
    return Rows(
        prepare(rows.harmful, teach=False),
        prepare(rows.ordinary, teach=True),
        prepare(rows.lookalikes, teach=True),
        prepare(rows.text, teach=True) if rows.text else (),
        entry,
    )


@torch.no_grad()
def _may_enter(model: ChatModel, batch: Sequence[Example], entry: int) -> bool:
    """Whether a pass that begins at a block is the whole one; not where later blocks use keys of earlier ones."""
    try:
        held = with_original(model, batch, first_block=entry, rows=len(batch), teach=False)
        found, whole = (answer_states(model, held, first_block=first).double() for first in (entry, 0))
    except (AttributeError, KeyError, TypeError, RuntimeError):  # a modelling file misses what was not computed
        return False
    return bool((found - whole).norm() <= 4 * tolerance(model.hf.dtype) * whole.norm())
