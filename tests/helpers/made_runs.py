"""Splits and runs of made-up prompts, without a file or a download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bures.data.prompts import PromptSet
from bures.jobs.config import AuditConfig
from bures.jobs.run import Run
from bures.jobs.splits import Sides, Splits
from bures.models.loading import ChatModel
from bures.results.schema import AuditResult


def sides(harmful: Sequence[str], harmless: Sequence[str]) -> Sides:
    """A split."""
    return Sides(*(PromptSet("made up", "a test", None, tuple(prompts)) for prompts in (harmful, harmless)))


def a_run(model: ChatModel, split: Sides, **options: Any) -> Run[AuditConfig, AuditResult]:
    """A run that writes nothing and has the same prompts in every split."""
    config = AuditConfig.make(model=model.name, **{"ranks": (1, 2), "limit": len(split.harmful), **options})
    result = AuditResult(
        command="",
        options=config.options,
        versions={},
        model={},
        prompts={},
        judge="arditi",
        seed=0,
        corpus=None,
        max_new_tokens=5,
    )
    return Run(config, Splits(split, split, split), model, result)
