"""What the positions of a batch hold (pad, prompt, last prompt token, answer), and which of them a scope moves."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from bures.errors import ConfigError
from bures.models.past import past_in
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
def token_kinds(kinds: Int[Tensor, "b s"]) -> Generator[None]:
    """Says what the positions of the next forward passes hold, where a pass alone cannot tell (teacher forcing)."""
    token = _GIVEN.set(kinds)
    try:
        yield
    finally:
        _GIVEN.reset(token)


_LENGTHS: ContextVar[Int[Tensor, " n"] | None] = ContextVar("bures_prompt_lengths", default=None)


@contextmanager
def prompt_lengths_are(lengths: Int[Tensor, " n"]) -> Generator[None]:
    """Says how many tokens of each row are its prompt, where passes bring a prompt in pieces."""
    token = _LENGTHS.set(lengths)
    try:
        yield
    finally:
        _LENGTHS.reset(token)


def kinds_of(attended: Bool[Tensor, "b s"], prompt_lengths: Int[Tensor, " b"]) -> Int[Tensor, "b s"]:
    """Kinds of whole sequences (prompt and answer together) from their mask and the lengths of their prompts."""
    rank = attended.long().cumsum(dim=1)  # 1-based place among the attended tokens
    lengths = prompt_lengths.to(rank.device)[:, None]
    kinds = torch.where(rank < lengths, TokenKind.PROMPT.value, TokenKind.GENERATED.value)
    kinds = torch.where(rank == lengths, TokenKind.LAST.value, kinds)
    return torch.where(attended, kinds, TokenKind.PAD.value)


def in_scope(kinds: Int[Tensor, "b s"], scope: Scope) -> Bool[Tensor, "b s"]:
    """Which positions a token scope moves."""
    if scope == "all":
        return kinds != TokenKind.PAD.value  # plain numbers: torch.compile takes a tensor never to equal a member
    first, *others = (kind.value for kind in _IN_SCOPE[scope])
    chosen = kinds == first
    for kind in others:
        chosen = chosen | (kinds == kind)
    return chosen


def in_scope_of_pass(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    scope: Scope,
    prompt_lengths: Int[Tensor, " n"] | None = None,
) -> Bool[Tensor, "b s"]:
    """Which positions of a forward pass of a model or its decoder a scope moves.

    By the kinds that `token_kinds` gave, else from mask and cache.

    Without the lengths of the prompts, what comes before anything is cached is prompt, what comes after is answer.

    Raises:
        ConfigError: the mask is not one row a sequence, or it does not fit the lengths.
    """
    given = _GIVEN.get()
    if given is not None:
        return in_scope(given, scope)
    prompt_lengths = _LENGTHS.get() if prompt_lengths is None else prompt_lengths
    ids, mask, cached = shown(module, args, kwargs)
    batch, new = int(ids.shape[0]), int(ids.shape[1])
    if mask is None:
        attended = torch.ones((batch, cached + new), dtype=torch.bool, device=ids.device)
    elif isinstance(mask, Tensor) and mask.ndim == 2:
        attended = mask.bool()
    else:
        raise ConfigError(
            "an intervention needs the 2-d attention mask to leave pads alone; pass attention_mask (b, s)"
        )
    if prompt_lengths is not None:
        if attended.shape[1] != cached + new:
            raise ConfigError(
                f"the attention mask has {attended.shape[1]} columns for {cached} cached and {new} new tokens; with "
                "prompt_lengths it has to show all of them"
            )
        lengths = _of_rows(prompt_lengths, batch)
        if scope != "all":
            return in_scope(kinds_of(attended, lengths)[:, -new:], scope)
    attended = attended[:, -new:]
    if scope == "all":
        return attended
    if cached:
        return attended if TokenKind.GENERATED in _IN_SCOPE[scope] else torch.zeros_like(attended)
    return in_scope(kinds_of(attended, attended.sum(dim=1)), scope)


def shown(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Any, int]:
    """What a forward pass is handed: token ids (or embeddings), the mask, and how many tokens are cached."""
    named = kwargs
    if args:  # the signature takes longer to read than all else, and generation gives everything by name
        named = {**dict(zip(inspect.signature(module.forward).parameters, args, strict=False)), **kwargs}
    ids = named.get("input_ids")
    cache = past_in(named)
    cached = 0 if cache is None else int(cache.get_seq_length())
    return named["inputs_embeds"] if ids is None else ids, named.get("attention_mask"), cached


def are_given() -> bool:
    """Whether `token_kinds` or `prompt_lengths_are` says what the positions hold."""
    return _GIVEN.get() is not None or _LENGTHS.get() is not None


def _of_rows(prompt_lengths: Int[Tensor, " n"], rows: int) -> Int[Tensor, " b"]:
    """The lengths of a batch; beam search asks for every prompt several times, one row after the other."""
    n = int(prompt_lengths.shape[0])
    if rows % n:
        raise ConfigError(f"{n} prompt_lengths for a batch of {rows} rows; expected one a row")
    return prompt_lengths if rows == n else prompt_lengths.repeat_interleave(rows // n)
