"""Source prompts on their way through a network, moved by each map before the next one is fitted.

The prompts go from one wanted block to the next, batch by batch; what the block hands on is moved before the next block
sees it. Where maps move the last prompt token alone, only that goes on, over the original's keys and values of what
stands before it; else all that stands behind what the prompts begin with, which is a walk of its own. Where a batch
that goes on from a held block is not what a whole pass under the maps makes of it (blocks that use the keys of earlier
ones, say), whole passes follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bures.models.batching import Batch
from bures.models.cached_pass import CACHED, past_of
from bures.models.caches import NOTHING, Before, cached_bytes, view
from bures.models.held import Held, held_batches, in_turn, reached
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.probing import tensor_of, tolerance, with_tensor
from bures.models.reentry import end_of, entered, keeping, rows_of
from bures.models.room import is_out_of_memory
from bures.models.shared_prefix import Prefix, prefix_of, width_of
from bures.models.tokens import in_scope, kinds_of
from bures.results.records import Scope
from bures.transport import TransportMap, interpolate

WORK = "maps on several blocks"
"""The kind of pass."""


@dataclass
class Sources:
    """Source prompts, and what is held of the original model's passes over them, from walk to walk.

    Attributes:
        sequences: their token ids.
        batches: of them.
        prefix: what all of them begin with.
        pasts: by a batch's rows, keys and values of all but their last token.
    """

    sequences: Sequence[Sequence[int]] = ()
    batches: list[Batch] = field(default_factory=list[Batch])
    prefix: Prefix | None = None
    pasts: dict[tuple[int, ...], Any] = field(default_factory=dict[tuple[int, ...], Any])

    def prepare(self, model: ChatModel, sequences: Sequence[Sequence[int]], token_budget: int) -> None:
        """Batches, and what all prompts begin with; done once."""
        if not self.batches:
            self.sequences, self.prefix = sequences, prefix_of(model, sequences, 0)
            held = held_batches(model, sequences, self.prefix, token_budget=token_budget)
            self.batches = [each.batch for each in held]

    def past(self, model: ChatModel, batch: Batch) -> Any:
        """Keys and values of all but the last token of a batch; None where there are none."""
        if batch.index not in self.pasts:
            self.pasts[batch.index] = past_of(model, batch, 1, self.prefix)
        return self.pasts[batch.index]


class SourceWalk:
    """One walk of source prompts under maps."""

    def __init__(self, model: ChatModel, sources: Sources, tokens: Scope, strength: float) -> None:
        """Stands before the first block.

        Args:
            model: the model.
            sources: the prompts, prepared.
            tokens: the scope of the maps.
            strength: theirs.
        """
        self.model, self.sources, self.strength = model, sources, strength
        self.tokens: Scope = tokens
        self._held = [Held(batch) for batch in sources.batches]
        self._maps: dict[int, TransportMap] = {}
        self._at, self._is_entered = -1, True
        self._prefix = sources.prefix
        self._beginning = None if self._prefix is None else Held(self._prefix.alone())
        size = cached_bytes(model, sum(map(len, sources.sequences)))
        may = model.entries.over_cache and tokens in ("last", "generated") and size <= CACHED
        self._ends = bool(may) and sources.past(model, sources.batches[0]) is not None

    def to(self, block: int) -> Float[Tensor, "n d"]:
        """Goes on to a block; what it hands on for each prompt's last token, in float32 on the CPU."""
        self._is_entered = self._is_entered and (not self._maps or self._may_enter(block))
        if self._is_entered and not self._ends:
            self._bring_beginning(block)
        source = torch.empty((len(self.sources.sequences), self.model.d_model), dtype=torch.float32)
        in_turn(self._held, self.model.room, WORK, partial(self._bring, block, source))
        self._at = block
        return source

    def move(self, map_: TransportMap) -> None:
        """Moves what was reached."""
        self._maps[self._at] = map_
        moving = partial(_move, interpolate(map_, self.strength), self.tokens)
        in_turn(self._held, self.model.room, WORK, moving)
        if self._beginning is not None and self._beginning.stream is not None and self.tokens in ("all", "prompt"):
            moving(self._beginning, everything=True)

    def _bring(self, block: int, source: Tensor, held: Held) -> None:
        """Brings one batch to a block, on from the one that was reached or, where it is not held, all the way."""
        goes_on = self._is_entered and held.entry == self._at
        held.stream = self._ahead(held, block) if goes_on else self._whole(held, block)
        held.entry = block
        source[list(held.batch.index)] = tensor_of(held.stream)[:, -1].float().cpu()

    def _bring_beginning(self, block: int) -> None:
        """Brings what all prompts begin with to a block, and has its keys and values up to there."""
        begin, streams = self._beginning, dict[Any, Any]()
        if self._prefix is None or begin is None:
            return
        handle = self.model.blocks[block].register_forward_hook(keeping(streams, block))
        try:
            within = entered(self.model, begin.entry, begin.stream)
            self._prefix = self._prefix.again(self.model, within, begin.entry, until=block)
        finally:
            handle.remove()
        begin.stream, begin.entry = streams[block], block

    def _before(self, batch: Batch) -> Before:
        """What a pass of a batch that goes on begins behind."""
        if self._ends:
            return Before(batch.ids.shape[1] - 1, view(self.sources.past(self.model, batch)))
        return NOTHING if self._prefix is None else self._prefix.before(len(batch.index))

    def _ahead(self, held: Held, block: int) -> Any:
        """What a block hands on for a batch; the blocks behind what is held are computed."""
        return reached(self.model, held, block, self._before(held.batch))

    def _whole(self, held: Held, block: int) -> Any:
        """The same of a whole pass under the maps so far, of the places that a batch which goes on has."""
        places = 1 if self._ends else held.batch.ids.shape[1] - width_of(self._prefix)
        with Intervention({**self._maps}, self.tokens, self.strength).applied(self.model):
            return end_of(reached(self.model, Held(held.batch), block), places)

    def _may_enter(self, block: int) -> bool:
        """Whether both are the same, on a row that is held, if that is not known of the model."""
        known, at = self.model.entries.behind.get(self._at), self._at
        if known is not None:
            return known
        held = next((each for each in reversed(self._held) if each.entry == at), None)
        if held is None:
            return True
        row = Held(held.batch.row(-1), rows_of(held.stream, slice(len(held.batch.index) - 1, None)), at)
        found = list[bool]()
        in_turn([row], self.model.room, WORK, lambda each: found.append(self._goes_on(each, block)))
        self.model.entries.behind[at] = all(found)
        return all(found)

    def _goes_on(self, held: Held, block: int) -> bool:
        """Whether one batch goes on to what a whole pass makes of it."""
        prefix, begin = self._prefix, self._beginning
        try:
            if begin is not None and prefix is not None and not self._ends:
                within = entered(self.model, begin.entry, begin.stream)
                self._prefix = prefix.again(self.model, within, begin.entry, until=block)
            found = tensor_of(self._ahead(held, block))[:, -1].double()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False  # a modelling file misses what a held-back block did not leave
        finally:
            self._prefix = prefix
        expected = tensor_of(self._whole(held, block))[:, -1].double()
        limit = 4 * tolerance(self.model.hf.dtype)
        return not bool(((found - expected).norm(dim=-1) > limit * expected.norm(dim=-1)).any())


def _move(map_: TransportMap, tokens: Scope, held: Held, *, everything: bool = False) -> None:
    """Puts a map on what is held, at the tokens in scope."""
    if held.stream is None:  # it will be computed under the map
        return
    h = tensor_of(held.stream)
    attended = held.batch.attended
    kinds = kinds_of(attended, attended.sum(dim=1) + everything)[:, -h.shape[1] :]  # a beginning has no last token
    chosen = in_scope(kinds, tokens)[..., None].to(h.device)
    moved = torch.where(chosen, map_.to(device=h.device, dtype=torch.float32)(h), h)
    held.stream = with_tensor(held.stream, moved)
