"""Batches of prompts of which the original model's pass is held, up to a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bures.models.activations import run_blocks
from bures.models.batching import Batch, Batches
from bures.models.caches import NOTHING, Before
from bures.models.loading import ChatModel
from bures.models.reentry import entered
from bures.models.room import Room
from bures.models.shared_prefix import Prefix


@dataclass(eq=False)
class Held:
    """One batch and the residual stream that a block hands on for it.

    Attributes:
        batch: the prompts.
        stream: what the block handed on, of the positions behind what all prompts begin with.
        entry: the block, behind which passes begin; -1: none, and passes are whole ones.
        whole: log-probabilities of a whole pass, if they were asked for.
        returned: what the decoder returned of the last positions, if its head can go on from that.
        cache: keys and values of all positions before the prompt's last, if they were asked for.
    """

    batch: Batch
    stream: Any = None
    entry: int = -1
    whole: Tensor | None = None
    returned: Any = None
    cache: Any = None


def held_batches(
    model: ChatModel, sequences: Sequence[Sequence[int]], prefix: Prefix | None, *, token_budget: int
) -> list[Held]:
    """Prompts in batches, of which nothing is held yet."""
    alike = model.parts.pads_matter
    found = Batches(sequences, pad_id=model.pad_id, token_budget=token_budget, equal_length=alike, room=model.room)
    return [Held(each if prefix is None else prefix.batch(each.index, sequences, model.pad_id)) for each in found]


def in_turn(held: list[Held], room: Room, work: str, step: Callable[[Held], object]) -> None:
    """Computes what is held batch by batch; where memory runs out, two halves, for which nothing is held, follow.

    Args:
        held: the batches; halves take the place of what they are of.
        room: the model's.
        work: the kind of pass.
        step: called with each.
    """
    place = 0
    while place < len(held):
        batch = held[place].batch
        with room.trying(work, *batch.ids.shape) as attempt:
            step(held[place])
        if attempt.failed:
            held[place : place + 1] = map(Held, batch.halves())
        else:
            place += 1


def reached(model: ChatModel, held: Held, block: int, before: Before = NOTHING, begun: int = 0) -> Any:
    """What a block hands on for a batch; the blocks behind what is held are computed.

    Args:
        model: the model.
        held: the batch.
        block: one behind what is held.
        before: what the pass begins behind, under what is applied.
        begun: how many tokens at the end of every row are the beginning of its answer.
    """
    outputs: list[Any] = []
    with entered(model, held.entry, held.stream):
        run_blocks(model, held.batch, {block: outputs.append}, until=block, begun=begun, before=before)
    return outputs[0]
