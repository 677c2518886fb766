"""Candidates made into interventions: maps fitted on the fit split and put where they belong.

A method fits one map per block. On several blocks the transport maps are fitted in sequence, each on activations that
the earlier maps have already moved (Rodriguez et al., arXiv 2410.23054, section 3), because a map fitted on untouched
activations would move again what has been moved. Ablations are projections and need no such order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from bures.data.conversations import Prompt
from bures.errors import ConfigError, FitError, NumericsError
from bures.models.batching import TOKEN_BUDGET
from bures.models.intervention import Intervention, Site
from bures.models.loading import ChatModel
from bures.models.methods import Fit, FitOptions, fit_of, method_of
from bures.models.source_walk import WORK, Sources, SourceWalk
from bures.results.records import Candidate, Scope
from bures.transport import TransportMap


@dataclass(frozen=True)
class FitData:
    """The fit split: source prompts, and both sides' activations at every block under consideration.

    Attributes:
        source_prompts: the harmful prompts, in the rows' order.
        source: block -> their activations (n, d).
        target: block -> those of the harmless ones (m, d).
        options: of the fits.
        strength: lambda with which the maps are applied.
        system: system prompt of the activations.
        token_budget: padded tokens in one forward pass.
        overflowing: block -> why it has no activations.
        sources: what fits on several blocks share.
    """

    source_prompts: Sequence[Prompt]
    source: Mapping[int, Float[Tensor, "n d"]]
    target: Mapping[int, Float[Tensor, "m d"]]
    options: FitOptions
    strength: float = 1.0
    system: str | None = None
    token_budget: int = TOKEN_BUDGET
    overflowing: Mapping[int, str] = field(default_factory=dict[int, str])
    sources: Sources = field(default_factory=Sources, repr=False, compare=False)


def build(model: ChatModel, candidate: Candidate, fit: FitData) -> Intervention:
    """The candidate's intervention, fitted on the fit split.

    Raises:
        ConfigError: an unknown method, a ranked one without a rank, or one without the candidate's placement.
        FitError: the activations do not allow a fit, or overflow.
    """
    for block in candidate.blocks:
        if block in fit.overflowing:
            raise NumericsError(fit.overflowing[block])
    method, how = method_of(candidate.method), fit_of(candidate.method, candidate.rank, fit.options)
    if candidate.sites:
        (block,) = candidate.blocks
        return at_sites(candidate, how(fit.source[block], fit.target[block]), len(model.blocks), fit.strength)
    if len(candidate.blocks) > 1 and method.sequential:
        maps = fit_in_sequence(model, fit, candidate.blocks, how, tokens=candidate.tokens)
    else:
        maps = {block: how(fit.source[block], fit.target[block]) for block in sorted(candidate.blocks)}
    return Intervention({**maps}, candidate.tokens, fit.strength)


def at_sites(candidate: Candidate, map_: TransportMap, n_blocks: int, strength: float) -> Intervention:
    """A map fitted at one block, at block input, attention output and MLP output of every block.

    Raises:
        ConfigError: the method has no such placement.
    """
    everywhere = method_of(candidate.method).everywhere
    if everywhere is None:
        raise ConfigError(f"method {candidate.method} has no map for three sites of every block")
    return Intervention(arditi_sites(everywhere(map_), n_blocks), candidate.tokens, strength)


def arditi_sites(map_: TransportMap, n_blocks: int) -> dict[int | Site, TransportMap]:
    """A map at block input, attention output and MLP output of every block (Arditi et al., section 2.4)."""
    return {Site(block, where): map_ for block in range(n_blocks) for where in ("input", "attention", "mlp")}


@torch.inference_mode()
def fit_in_sequence(
    model: ChatModel, fit: FitData, blocks: Sequence[int], how: Fit, *, tokens: Scope
) -> dict[int, TransportMap]:
    """Fits a map at each block, first to last, each on source activations moved by the maps before it.

    The source prompts go through the network once (`bures.models.source_walk`).

    Args:
        model: the model.
        fit: the fit split; its target activations are untouched ones.
        blocks: where maps are fitted.
        how: (source, target) -> map.
        tokens: the scope that the maps will be applied with.

    Raises:
        FitError: a fit failed, or the moved activations overflow; the block is named.
    """
    budget = model.room.budget(WORK, fit.token_budget)
    fit.sources.prepare(model, model.encode(fit.source_prompts, system=fit.system), budget)
    walk = SourceWalk(model, fit.sources, tokens, fit.strength)
    maps: dict[int, TransportMap] = {}
    for block in sorted(blocks):
        source = walk.to(block)
        if not bool(torch.isfinite(source).all()):
            raise FitError(
                f"activations after block {block} are NaN or infinite once the blocks before it are moved; "
                "use fewer blocks or a smaller strength"
            )
        try:
            maps[block] = how(source, fit.target[block])
        except FitError as error:
            raise FitError(f"block {block}: {error}") from error
        walk.move(maps[block])
    return maps
