"""The model organism: a small LoRA with which SmolLM2-135M-Instruct refuses harmful requests.

The original model barely refuses, so what the refusal training added is known; the adapter ships with the package and
`bures organism train` makes it again. Harmful prompts are only read, at run time, from the pinned files.

Names are loaded on first use, so that the options are read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bures.training.organism.config import OrganismConfig
    from bures.training.organism.evaluate import OrganismReport, evaluate_organism
    from bures.training.organism.recipe import train_organism

__all__ = ["OrganismConfig", "OrganismReport", "evaluate_organism", "train_organism"]


def __getattr__(name: str) -> Any:
    for module in ("config", "evaluate", "recipe") if name in __all__ else ():
        held = vars(importlib.import_module(f"{__name__}.{module}"))
        if name in held:
            return held[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
