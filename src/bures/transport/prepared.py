"""A map made ready for a hook, which runs once a block and token of every answer: few operations, no conversions.

    LowRankAffine    h + [ (h - mu) V M' + c' ] U'      with V M' multiplied out beforehand
    DiagonalAffine   b + w h

What is subtracted first stays first: h - mu is small where h and mu are large, and a folded constant c - M V'mu would
lose that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from bures.transport.base import DiagonalAffine, LowRankAffine, TransportMap

Move = Callable[[Tensor], Tensor]
"""From h to T(h), of h's shape and dtype; h is not edited."""


def prepared(transport: TransportMap, device: torch.device, dtype: torch.dtype) -> Move:
    """What a map does to activations on one device, the arithmetic in one dtype; maps of other classes as they are.

    Raises:
        ConfigError: when called, for an h of another width.
    """
    there = transport.to(device=device, dtype=dtype)
    if isinstance(transport, LowRankAffine):
        reads = (transport.basis_in @ transport.matrix.mT).to(device=device, dtype=dtype)
        own = transport.to(device=device, dtype=dtype)
        act: Move = partial(_low_rank, own.mean, reads, own.offset, own.basis_out.mT.contiguous())
    elif isinstance(transport, DiagonalAffine):
        own = transport.to(device=device, dtype=dtype)
        act = partial(_diagonal, own.weight, own.bias, own.low, own.high)
    else:
        return there

    def move(h: Tensor) -> Tensor:
        if h.shape[-1] != there.dim or torch.is_autocast_enabled(device.type):
            return there(h)  # which refuses the one, and switches the other off
        return act(h)

    return move


def _low_rank(
    mean: Float[Tensor, " d"],
    reads: Float[Tensor, "d k"],
    offset: Float[Tensor, " k"],
    writes: Float[Tensor, "k d"],
    h: Float[Tensor, "*batch d"],
) -> Float[Tensor, "*batch d"]:
    wide = h.to(mean.dtype).reshape(-1, mean.shape[0])
    shift = torch.addmm(offset, wide - mean, reads)
    return torch.addmm(wide, shift, writes).to(h.dtype).reshape(h.shape)


def _diagonal(
    weight: Float[Tensor, " d"],
    bias: Float[Tensor, " d"],
    low: Tensor | None,
    high: Tensor | None,
    h: Float[Tensor, "*batch d"],
) -> Float[Tensor, "*batch d"]:
    wide = h.to(weight.dtype)
    moved = torch.addcmul(bias, wide, weight)
    if low is not None and high is not None:
        moved = torch.where((wide >= low) & (wide <= high), moved, wide)
    return moved.to(h.dtype)
