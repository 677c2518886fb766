"""What memory a job will need, said before its model is loaded."""

from __future__ import annotations

from bures.data.conversations import messages_of
from bures.jobs.config import AuditConfig, ScanConfig, SearchConfig
from bures.jobs.progress import Progress
from bures.jobs.splits import Sides, Splits
from bures.models.before_loading import foreseen
from bures.models.memory import Passes, Shape, free_memory, need
from bures.models.sources import place_of

ASKED = 64
"""Fit prompts of each side that the model answers so that its refusal tokens are found."""

_TEMPLATE, _CHARACTERS = 32, 4
"""Tokens of a chat template, and characters of a token, as a rule."""


def passes_of(config: ScanConfig, splits: Splits) -> Passes:
    """The passes of a job over its prompts."""
    sides = [side for side in (splits.fit, splits.select, splits.test) if side is not None]
    answers, new, costed, corpus = min(ASKED, len(splits.fit.harmful)), 24, 0, 0
    if isinstance(config, AuditConfig):
        tested = splits.tested
        answers = max(answers, len(tested.harmful), len(tested.harmless))
        new, costed = config.max_new_tokens, len(tested.harmless)
        corpus = config.corpus_tokens if config.corpus is not None else 0
    elif isinstance(config, SearchConfig):
        answers, new, costed = max(answers, len(splits.select)), config.long_tokens, len(splits.select.harmless)
    return Passes(
        prompt_tokens=_TEMPLATE + max(map(_characters, sides)) // _CHARACTERS,
        fitted=len(splits.fit),
        scored=max(len(splits.select.harmful), len(splits.select.harmless)),
        answers=answers,
        new_tokens=new,
        costed=costed,
        corpus_tokens=corpus,
        token_budget=config.token_budget,
    )


def _characters(sides: Sides) -> int:
    """Characters that nine prompts in ten do not exceed: the few that do are in batches of their own."""
    lengths = sorted(sum(len(turn["content"]) for turn in messages_of(p)) for _, each in sides.items() for p in each)
    return lengths[len(lengths) * 9 // 10] if lengths else 0


def shape_foreseen(config: ScanConfig) -> Shape | None:
    """What the model of a configuration will be once it is loaded; None where its configuration does not say."""
    return foreseen(
        config.model,
        dtype=config.dtype,
        device=config.device,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        quantization=config.quantization,
    )


def say_memory(config: ScanConfig, splits: Splits, progress: Progress) -> None:
    """Tells the user what memory the job needs, and whether it is there."""
    shape = shape_foreseen(config)
    if shape is not None:
        progress.say(need(shape, passes_of(config, splits)).sentence(*free_memory(place_of(config.device))))
