"""Hardening: a LoRA with which a model keeps refusing although its activations are edited.

Names are loaded on first use, so that the options are read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bures.training.harden.config import HardenConfig
    from bures.training.harden.job import harden

__all__ = ["HardenConfig", "harden"]


def __getattr__(name: str) -> Any:
    for module in ("config", "job") if name in __all__ else ():
        held = vars(importlib.import_module(f"{__name__}.{module}"))
        if name in held:
            return held[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
