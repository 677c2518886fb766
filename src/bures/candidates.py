"""What may be tried: a method at blocks, with a rank and a token scope, and the intervention that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bures.hooks import Intervention, Scope
from bures.methods import FitOptions, arditi_sites, fit_block, intervene
from bures.models import ChatModel

ARDITI_SITES = "rfa-sites"
"""Candidate name for one RFA direction at block input, attention output and MLP output of all blocks."""


@dataclass(frozen=True)
class Candidate:
    """What is tried: a method at blocks, with a rank (or None) and a token scope."""

    method: str
    blocks: tuple[int, ...]
    rank: int | None
    tokens: Scope

    @property
    def key(self) -> str:
        """A stable name: in results, in file names."""
        rank = "" if self.rank is None else f"-k{self.rank}"
        blocks = (
            f"{self.blocks[0]}" if len(self.blocks) == 1 else f"{self.blocks[0]}to{self.blocks[-1]}n{len(self.blocks)}"
        )
        if len(self.blocks) == 2:
            blocks = f"{self.blocks[0]}+{self.blocks[1]}"
        return f"{self.method}{rank}-b{blocks}-{self.tokens}"


@dataclass(frozen=True)
class FitData:
    """The fit split: source prompts, and both sides' activations at every block under consideration."""

    source_prompts: Sequence[str]
    source: Mapping[int, Float[Tensor, "n d"]]
    target: Mapping[int, Float[Tensor, "m d"]]
    options: FitOptions
    strength: float = 1.0
    system: str | None = None


def build(model: ChatModel, candidate: Candidate, fit: FitData) -> Intervention:
    """The candidate's intervention, fitted on the fit split."""
    if candidate.method == ARDITI_SITES:
        (block,) = candidate.blocks
        direction = fit_block("rfa", fit.source[block], fit.target[block], (), fit.options)[0]
        return Intervention(arditi_sites(direction, len(model.blocks)), candidate.tokens, fit.strength)
    return intervene(
        model,
        candidate.method,
        candidate.blocks,
        candidate.rank,
        tokens=candidate.tokens,
        source_prompts=fit.source_prompts,
        source=fit.source,
        target=fit.target,
        options=fit.options,
        strength=fit.strength,
        system=fit.system,
    )
