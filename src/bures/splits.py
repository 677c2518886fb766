"""The six prompt sets of an audit: shuffled by the seed, cut to size, disjoint by hash."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from bures.config import AuditConfig
from bures.prompts import PromptSet, load_prompts, require_disjoint


@dataclass(frozen=True)
class Splits:
    """The six prompt sets of an audit, disjoint by hash."""

    harmful_fit: PromptSet
    harmful_select: PromptSet
    harmful_test: PromptSet
    harmless_fit: PromptSet
    harmless_select: PromptSet
    harmless_test: PromptSet

    def describe(self) -> dict[str, dict[str, Any]]:
        """Source, n and sha256 of each."""
        return {name: vars(self)[name].describe() for name in vars(self)}


def load_splits(config: AuditConfig) -> Splits:
    """The six prompt sets: shuffled by the seed, cut to size, and disjoint.

    Raises:
        PromptError: a set cannot be read, or two of them share a prompt.
    """
    sizes = {
        "harmful_fit": config.n_fit,
        "harmful_select": config.n_select,
        "harmful_test": config.n_test,
        "harmless_fit": config.n_fit,
        "harmless_select": config.n_select,
        "harmless_test": config.n_harmless_test,
    }
    sets = {name: load_prompts(getattr(config, name), column=config.column) for name in sizes}
    require_disjoint(**sets)
    return Splits(**{name: _sample(prompts, sizes[name], config) for name, prompts in sets.items()})


def _sample(prompts: PromptSet, n: int | None, config: AuditConfig) -> PromptSet:
    """A random subset, in the file's order; the same for the same seed."""
    wanted = min(x for x in (n, config.limit, len(prompts)) if x is not None)
    chosen = sorted(random.Random(config.seed).sample(range(len(prompts)), wanted))
    return replace(
        prompts, prompts=tuple(prompts[i] for i in chosen), categories=tuple(prompts.categories[i] for i in chosen)
    )
