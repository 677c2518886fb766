"""The prompt sets of a job: shuffled by the seed, cut to size, disjoint by hash."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from bures.data.prompts import PARTS, PromptSet, load_prompts, require_disjoint
from bures.jobs.config import ScanConfig

Splits = Mapping[str, PromptSet]
"""`harmful_fit`, `harmless_select` and so on; the names are those of the options."""


def load_splits(config: ScanConfig) -> Splits:
    """The prompt sets of a job: shuffled by the seed, cut to size, and disjoint.

    Raises:
        PromptError: a set cannot be read, or two of them share a prompt.
    """
    sets = {name: _load(getattr(config, name), config) for name in config.sizes}
    require_disjoint(**sets)
    return MappingProxyType({name: _sample(found, config.sizes[name], config) for name, found in sets.items()})


def described(splits: Splits) -> dict[str, dict[str, Any]]:
    """Source, n and sha256 of each."""
    return {name: prompts.describe() for name, prompts in splits.items()}


def _load(source: str, config: ScanConfig) -> PromptSet:
    pinned = source.partition("#")[0].partition(":")[0] in PARTS  # their columns are known
    return load_prompts(source, column=None if pinned else config.column)


def _sample(prompts: PromptSet, n: int | None, config: ScanConfig) -> PromptSet:
    """A random subset, in the file's order; the same for the same seed."""
    wanted = min(x for x in (n, config.limit, len(prompts)) if x is not None)
    chosen = sorted(random.Random(config.seed).sample(range(len(prompts)), wanted))
    return replace(
        prompts, prompts=tuple(prompts[i] for i in chosen), categories=tuple(prompts.categories[i] for i in chosen)
    )
