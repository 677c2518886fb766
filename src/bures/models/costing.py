"""What passes over a model take: seconds by a cost model of three figures of the machine, nothing loaded.

    pass = blocks computed x (call + 2 x weights x positions / flops + bytes of the weights / bandwidth)
         + the head's, likewise, over the positions whose logits are wanted, and those logits read `SOFTMAX` times

A position is a token of a padded batch in one pass. Attention over the keys is left out: with prompts of some dozens of
tokens it is a few per cent of the products with the weights. `docs/scaling.md` holds it against measured times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from bures.models.memory import Shape

SOFTMAX = 6
"""How often logits are read or written until log-probabilities stand there, in float32."""

_LONG = 1.0
"""Seconds that each figure of the machine is measured for."""


@dataclass(frozen=True)
class Pass:
    """A pass, or many alike.

    Attributes:
        positions: that it computes, pads counted in.
        depth: share of the blocks that it computes.
        logits: positions whose logits are wanted.
        times: how many such passes.
    """

    positions: int
    depth: float = 1.0
    logits: int = 0
    times: int | float = 1

    @property
    def whole(self) -> float:
        """Token passes: positions through all blocks."""
        return self.positions * self.depth * self.times


@dataclass(frozen=True)
class Machine:
    """What a device does, with matrices like a block's.

    Attributes:
        flops: operations a second of products of matrices.
        bandwidth: bytes a second of weights that are read for one token.
        call: seconds that one block of one pass takes however small it is.
    """

    flops: float
    bandwidth: float
    call: float

    def seconds(self, passes: Iterable[Pass], shape: Shape) -> float:
        """How long passes over a model take."""
        return sum((each.times * self._one(each, shape) for each in passes), 0.0)

    def _one(self, one: Pass, shape: Shape) -> float:
        met = min(shape.resident, shape.active * max(1.0, one.positions))  # of experts, those that some token goes to
        blocks = 2.0 * shape.active * one.positions / self.flops + met * shape.itemsize / self.bandwidth
        head, logits = shape.vocabulary * shape.width, 0.0
        if one.logits:
            logits = 2.0 * head * one.logits / self.flops + head * shape.itemsize / self.bandwidth
        read = SOFTMAX * 4.0 * one.logits * shape.vocabulary / self.bandwidth
        return one.depth * (shape.blocks * self.call + blocks) + logits + read


def token_passes(passes: Iterable[Pass]) -> float:
    """Positions computed, summed over the blocks, over the number of blocks."""
    return sum((each.whole for each in passes), 0.0)


@torch.inference_mode()
def probed(shape: Shape, device: str, dtype: torch.dtype) -> Machine:
    """The machine's three figures, measured for a few seconds with matrices of the model's width.

    Args:
        shape: of the model.
        device: where it goes.
        dtype: of its weights.
    """
    place = torch.device("cuda" if device == "auto" else device)
    width, inner = min(shape.width, 8192), min(shape.inner, 16384)
    weight = torch.full((inner, width), 0.01, dtype=dtype, device=place)
    many = torch.full((512, width), 0.5, dtype=dtype, device=place)
    copies = max(1, (256 << 20) // (weight.numel() * weight.element_size()))  # more than a cache holds
    apart = [weight.clone() for _ in range(copies)]
    one, state = many[:1], many[:1].float()

    def ready() -> None:
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    def product() -> None:
        _ = torch.nn.functional.linear(many, weight)
        ready()

    def reading() -> None:
        for each in apart:
            _ = torch.nn.functional.linear(one, each)
        ready()

    def small() -> None:
        x = state
        for _ in range(OPERATIONS):
            x = x * 1.0
        ready()

    return Machine(
        flops=2.0 * 512 * inner * width / _time(product),
        bandwidth=copies * weight.numel() * weight.element_size() / _time(reading),
        call=_time(small),
    )


OPERATIONS = 60
"""Small operations of one block: norms, rotary embedding, masks, residuals, and the hooks' own."""


def _time(act: Callable[[], None]) -> float:
    """Seconds of one call: the median of as many as fit."""
    act()
    taken: list[float] = []
    begun = time.perf_counter()
    while not taken or time.perf_counter() - begun < _LONG:
        before = time.perf_counter()
        act()
        taken.append(time.perf_counter() - before)
    return sorted(taken)[len(taken) // 2]
