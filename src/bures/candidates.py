"""What may be tried: a method at blocks, with a rank and a token scope, and the intervention that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.methods import FitOptions, arditi_sites, fit_block, intervene
from bures.results.records import Candidate

ARDITI_SITES = "rfa-sites"
"""Candidate name for one RFA direction at block input, attention output and MLP output of all blocks."""


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
