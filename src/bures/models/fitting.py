"""Candidates made into interventions: maps fitted on the fit split and put where they belong.

A method fits one map per block. On several blocks the transport maps are fitted in sequence, each on activations that
the earlier maps have already moved (Rodriguez et al., arXiv 2410.23054, section 3), because a map fitted on untouched
activations would move again what has been moved. Ablations are projections and need no such order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bures.data.conversations import Prompt
from bures.errors import ConfigError, FitError, NumericsError
from bures.models.activations import run_blocks
from bures.models.batching import TOKEN_BUDGET, batches
from bures.models.held import Held, in_turn
from bures.models.intervention import Intervention, Site
from bures.models.loading import ChatModel
from bures.models.methods import Fit, FitOptions, fit_of, method_of
from bures.models.probing import tensor_of, tolerance, with_tensor
from bures.models.reentry import entered
from bures.models.room import is_out_of_memory
from bures.models.tokens import in_scope, kinds_of
from bures.results.records import Candidate, Scope
from bures.transport import TransportMap, interpolate

_WORK = "maps on several blocks"


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
    """

    source_prompts: Sequence[Prompt]
    source: Mapping[int, Float[Tensor, "n d"]]
    target: Mapping[int, Float[Tensor, "m d"]]
    options: FitOptions
    strength: float = 1.0
    system: str | None = None
    token_budget: int = TOKEN_BUDGET
    overflowing: Mapping[int, str] = field(default_factory=dict[int, str])


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

    The source prompts go through the network once, batch by batch from one wanted block to the next: the map is fitted
    on the last prompt token, and moves what the block hands on before the next block sees it. Where a batch that goes
    on from a held block is not what a whole pass under the maps makes of it (blocks that use the keys of earlier ones,
    say), whole passes follow.

    Args:
        model: the model.
        fit: the fit split; its target activations are untouched ones.
        blocks: where maps are fitted.
        how: (source, target) -> map.
        tokens: the scope that the maps will be applied with.

    Raises:
        FitError: a fit failed, or the moved activations overflow; the block is named.
    """
    sequences = model.encode(fit.source_prompts, system=fit.system)
    budget, alike = model.room.budget(_WORK, fit.token_budget), model.parts.pads_matter
    held = [Held(batch) for batch in batches(sequences, pad_id=model.pad_id, token_budget=budget, equal_length=alike)]
    maps: dict[int, TransportMap] = {}
    reached, is_entered = -1, True
    for block in sorted(blocks):
        so_far = Intervention({**maps}, tokens, fit.strength)
        is_entered = is_entered and (not maps or _go_on(model, held, reached, block, so_far))
        source = torch.empty((len(sequences), model.d_model), dtype=torch.float32)
        step = partial(_go, model, block, so_far, source, reached if is_entered else None)
        in_turn(held, model.room, _WORK, step)
        reached = block
        if not bool(torch.isfinite(source).all()):
            raise FitError(
                f"activations after block {block} are NaN or infinite once the blocks before it are moved; "
                "use fewer blocks or a smaller strength"
            )
        try:
            maps[block] = how(source, fit.target[block])
        except FitError as error:
            raise FitError(f"block {block}: {error}") from error
        map_ = interpolate(maps[block], fit.strength)
        in_turn(held, model.room, _WORK, partial(_move, map_, tokens))
    return maps


def _go(model: ChatModel, block: int, so_far: Intervention, source: Tensor, reached: int | None, held: Held) -> None:
    """Brings one batch to a block, on from the block that was reached or (None, or it is not held) all the way."""
    goes_on = held.entry == reached
    held.stream = _ahead(model, held, block) if goes_on else _whole(model, held, block, so_far)
    held.entry = block
    source[list(held.batch.index)] = tensor_of(held.stream)[:, -1].float().cpu()


def _ahead(model: ChatModel, held: Held, block: int) -> Any:
    """What a block hands on for a batch; the blocks behind what is held are computed."""
    outputs: list[Any] = []
    with entered(model, held.entry, held.stream):
        run_blocks(model, held.batch, {block: outputs.append}, until=block)
    return outputs[0]


def _whole(model: ChatModel, held: Held, block: int, so_far: Intervention) -> Any:
    """What a block hands on in a whole pass under the maps so far."""
    with so_far.applied(model):
        return _ahead(model, Held(held.batch), block)


def _go_on(model: ChatModel, held: list[Held], reached: int, block: int, so_far: Intervention) -> bool:
    """Whether both are the same, on the shortest batch that is held, if it is not known of the model."""
    known = model.entries.behind.get(reached)
    if known is not None:
        return known
    places = [place for place, each in enumerate(held) if each.entry == reached]
    tried, found = [held[place] for place in places[-1:]], list[bool]()
    in_turn(tried, model.room, _WORK, lambda each: found.append(_goes_on(model, each, reached, block, so_far)))
    for place in places[-1:]:
        held[place : place + 1] = tried
    if places and all(each.entry == reached for each in tried):  # not where memory ran out, and nothing was compared
        model.entries.behind[reached] = all(found)
    return all(found)


def _goes_on(model: ChatModel, held: Held, reached: int, block: int, so_far: Intervention) -> bool:
    """Whether both are the same for one batch; True where nothing is held."""
    if held.entry != reached:
        return True
    try:
        found = tensor_of(_ahead(model, held, block))[:, -1].double()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return False  # a modelling file misses what a held-back block did not leave
    expected = tensor_of(_whole(model, held, block, so_far))[:, -1].double()
    limit = 4 * tolerance(model.hf.dtype)
    return not bool(((found - expected).norm(dim=-1) > limit * expected.norm(dim=-1)).any())


def _move(map_: TransportMap, tokens: Scope, held: Held) -> None:
    """Puts a map on what is held, at the tokens in scope."""
    if held.stream is None:  # it will be computed under the map
        return
    h = tensor_of(held.stream)
    attended = held.batch.attended
    chosen = in_scope(kinds_of(attended, attended.sum(dim=1)), tokens)[..., None].to(h.device)
    moved = torch.where(chosen, map_.to(device=h.device, dtype=torch.float32)(h), h)
    held.stream = with_tensor(held.stream, moved)
