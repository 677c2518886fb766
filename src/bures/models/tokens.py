"""What the positions of a batch hold (pad, prompt, last prompt token, answer), and which of them a scope moves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from bures.errors import ConfigError
from bures.results.records import Scope


class TokenKind(IntEnum):
    """What a position of a batch holds. `LAST` is the last prompt token, the one that predicts the answer's first."""

    PAD = 0
    PROMPT = 1
    LAST = 2
    GENERATED = 3


_IN_SCOPE: dict[Scope, tuple[TokenKind, ...]] = {
    "all": (TokenKind.PROMPT, TokenKind.LAST, TokenKind.GENERATED),
    "prompt": (TokenKind.PROMPT, TokenKind.LAST),
    "last": (TokenKind.LAST,),
    "generated": (TokenKind.GENERATED,),
}


_GIVEN: ContextVar[Int[Tensor, "b s"] | None] = ContextVar("bures_token_kinds", default=None)


@contextmanager
def token_kinds(kinds: Int[Tensor, "b s"]) -> Iterator[None]:
    """Says what the positions of the next forward passes hold, where a pass alone cannot tell (teacher forcing)."""
    token = _GIVEN.set(kinds)
    try:
        yield
    finally:
        _GIVEN.reset(token)


def kinds_of(attended: Bool[Tensor, "b s"], prompt_lengths: Int[Tensor, " b"]) -> Int[Tensor, "b s"]:
    """Kinds of whole sequences (prompt and answer together) from their mask and the lengths of their prompts."""
    rank = attended.long().cumsum(dim=1)  # 1-based place among the attended tokens
    lengths = prompt_lengths.to(rank.device)[:, None]
    kinds = torch.where(rank < lengths, TokenKind.PROMPT, TokenKind.GENERATED)
    kinds = torch.where(rank == lengths, TokenKind.LAST, kinds)
    return torch.where(attended, kinds, TokenKind.PAD)


def in_scope(kinds: Int[Tensor, "b s"], scope: Scope) -> Bool[Tensor, "b s"]:
    """Which positions a token scope moves."""
    return torch.isin(kinds, torch.tensor(_IN_SCOPE[scope], device=kinds.device))


def kinds_of_pass(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Int[Tensor, "b s"]:
    """Kinds of a forward pass of a model or its decoder: those that `token_kinds` gave, else from mask and cache.

    What comes before anything is cached is prompt, what comes after is answer.

    Raises:
        ConfigError: the mask is not one row a sequence.
    """
    given = _GIVEN.get()
    if given is not None:
        return given
    named = {**dict(zip(inspect.signature(module.forward).parameters, args, strict=False)), **kwargs}
    ids = named.get("input_ids")
    if ids is None:
        ids = named["inputs_embeds"]
    mask = named.get("attention_mask")
    cache = named.get("past_key_values")
    cached = 0 if cache is None else int(cache.get_seq_length())
    batch, new = int(ids.shape[0]), int(ids.shape[1])
    if mask is None:
        attended = torch.ones((batch, new), dtype=torch.bool, device=ids.device)
    elif isinstance(mask, Tensor) and mask.ndim == 2:
        attended = mask[:, -new:].bool()
    else:
        raise ConfigError(
            "an intervention needs the 2-d attention mask to leave pads alone; pass attention_mask (b, s)"
        )
    if cached:
        return torch.where(attended, TokenKind.GENERATED, TokenKind.PAD)
    return kinds_of(attended, attended.sum(dim=1))
