"""The same edits by other means: dense float64 arithmetic, and replaced `forward` methods instead of hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bures.transport import DiagonalAffine, LowRankAffine

Move = Callable[[Tensor], Tensor]


def low_rank(dim: int, *, seed: int = 0, rank: int = 2) -> LowRankAffine:
    """A random map that moves activations a good deal."""
    made = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=made, dtype=torch.float64)

    return LowRankAffine(
        kind="random",
        mean=randn(dim),
        basis_in=randn(dim, rank) / dim**0.5,
        matrix=randn(rank, rank),
        offset=randn(rank),
        basis_out=randn(dim, rank),
    )


def shift(dim: int, *, seed: int = 0, size: float = 1.0) -> DiagonalAffine:
    """h + b with no small entry in b."""
    made = torch.Generator().manual_seed(seed)
    bias = size * (1 + torch.rand(dim, generator=made, dtype=torch.float64))
    return DiagonalAffine(kind="random", weight=torch.ones(dim, dtype=torch.float64), bias=bias)


def dense(map_: LowRankAffine | DiagonalAffine, strength: float = 1.0) -> Move:
    """h + strength (T(h) - h) with T written out as one d x d matrix, in float64."""
    if isinstance(map_, DiagonalAffine):
        W, b = torch.diag(map_.weight), map_.bias
    else:
        change = map_.basis_out @ map_.matrix @ map_.basis_in.T
        W = torch.eye(map_.dim, dtype=torch.float64) + change
        b = map_.basis_out @ map_.offset - change @ map_.mean

    def move(h: Tensor) -> Tensor:
        wide = h.double()
        return (wide + strength * (wide @ W.T + b - wide)).to(h.dtype)

    return move


def at(places: slice, move: Move) -> Move:
    """`move` at some positions of (b, s, d) only."""

    def moved(h: Tensor) -> Tensor:
        edited = h.clone()
        edited[:, places] = move(h[:, places])
        return edited

    return moved


@contextmanager
def replaced(module: nn.Module, move: Move, where: str = "output") -> Iterator[None]:
    """Edits what a module reads (`input`) or returns, by replacing its `forward`."""
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if where == "input":
            if args:
                args = (move(args[0]), *args[1:])
            else:
                kwargs = {**kwargs, "hidden_states": move(kwargs["hidden_states"])}
            return original(*args, **kwargs)
        output = original(*args, **kwargs)
        return (move(output[0]), *output[1:]) if isinstance(output, tuple) else move(output)

    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def writers(layer: Any) -> tuple[nn.Module, nn.Module]:
    """What adds to the residual stream for attention and MLP; in Gemma 2 and 3 a norm stands behind each."""
    if type(layer).__name__.startswith(("Gemma2", "Gemma3")):
        return layer.post_attention_layernorm, layer.post_feedforward_layernorm
    return layer.self_attn, layer.mlp
