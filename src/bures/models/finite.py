"""Numbers that overflow, seen where they appear.

float16 ends at 65,504; some checkpoints, and some maps on any checkpoint, go beyond. What follows are NaN, of which an
argmax makes a token all the same. So every pass that a figure rests on is looked at, and what is not finite is a
`NumericsError`: a finding about the map, the block or the number format, never a figure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bures.errors import NumericsError


def require_finite(logits: Float[Tensor, "*n vocabulary"], attended: Bool[Tensor, "*n"] | None = None) -> None:
    """Refuses logits of which no distribution can be made; single tokens may be ruled out by -inf.

    Args:
        logits: of any number of positions.
        attended: the positions that count; default: all.

    Raises:
        NumericsError: a position's largest logit is NaN or infinite.
    """
    largest = logits.amax(dim=-1) if attended is None else logits.amax(dim=-1)[attended]
    bad = ~torch.isfinite(largest)
    if bool(bad.any()):
        raise NumericsError(
            f"logits are NaN or infinite at {int(bad.sum())} of {bad.numel()} positions; "
            "--dtype float32 or bfloat16 has a wider range than float16"
        )


def watch() -> Callable[[Any, Tensor], Tensor]:
    """A logits processor of transformers that changes nothing and refuses what is not finite."""

    def look(_: Any, scores: Tensor) -> Tensor:
        require_finite(scores)
        return scores

    return look


def overflowing(rows: dict[int, Float[Tensor, "n d"]]) -> dict[int, str]:
    """Block -> why its activations cannot be used; blocks with finite ones are left out."""
    found: dict[int, str] = {}
    for block, each in rows.items():
        bad = int((~torch.isfinite(each)).any(dim=1).sum())
        if bad:
            found[block] = (
                f"activations after block {block} contain NaN or infinity for {bad} of {len(each)} prompts; "
                "load the model with --dtype float32 or bfloat16, or check the checkpoint"
            )
    return found
