"""Residual-stream activations of prompts, at chosen blocks.

The decoder runs without `lm_head` and stops after the last wanted block; only the wanted position of the wanted blocks
is kept, so memory is prompts x blocks x d and nothing else.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bures.data.conversations import PromptLike
from bures.errors import ConfigError, NumericsError
from bures.models.batching import TOKEN_BUDGET, Batch, Batches, positions
from bures.models.caches import NOTHING, Before
from bures.models.finite import overflowing
from bures.models.loading import ChatModel
from bures.models.past import past_for
from bures.models.probing import tensor_of
from bures.models.reentry import ended
from bures.models.shared_prefix import prefix_of
from bures.models.tokens import kinds_of, token_kinds


def collect(
    model: ChatModel,
    prompts: Iterable[PromptLike],
    *,
    blocks: Sequence[int] | None = None,
    position: int = -1,
    system: str | None = None,
    token_budget: int = TOKEN_BUDGET,
    advance: Callable[[int], object] | None = None,
) -> dict[int, Float[Tensor, "n d"]]:
    """Activations after each wanted block, at one prompt position, one row a prompt, in the prompts' order.

    An intervention that is applied around the call is seen: rows are what the block hands on after its map.

    Args:
        model: the model.
        prompts: user turns, or conversations that end with one; the chat template is applied, generation prompt
            included.
        blocks: block numbers (0-based); default all.
        position: which token, counted from the end of the templated prompt; -1 is the last.
        system: optional system prompt.
        token_budget: padded tokens in one forward pass.
        advance: called with the number of prompts done after each batch.

    Returns:
        block -> rows in float32 on the CPU.

    Raises:
        ConfigError: no such block, or a prompt shorter than the position asks for.
        NumericsError: an activation is NaN or infinite; the block is named.
    """
    rows = gather(
        model,
        prompts,
        blocks=blocks,
        position=position,
        system=system,
        token_budget=token_budget,
        advance=advance,
    )
    for reason in overflowing(rows).values():
        raise NumericsError(reason)
    return rows


@torch.inference_mode()
def gather(
    model: ChatModel,
    prompts: Iterable[PromptLike],
    *,
    blocks: Sequence[int] | None = None,
    position: int = -1,
    system: str | None = None,
    token_budget: int = TOKEN_BUDGET,
    advance: Callable[[int], object] | None = None,
) -> dict[int, Float[Tensor, "n d"]]:
    """As `collect`, but what is not finite is handed on as it is.

    Raises:
        ConfigError: no such block, or a prompt shorter than the position asks for.
    """
    sequences = model.encode(prompts, system=system)
    shortest = min(map(len, sequences), default=0)
    if sequences and (position >= 0 or -position > shortest):
        raise ConfigError(f"position {position} is not in every prompt; expected -{shortest} to -1")
    wanted = range(len(model.blocks)) if blocks is None else blocks
    places = [[position]] * len(sequences)
    rows = read(model, sequences, wanted, places, token_budget=token_budget, advance=advance)
    return {block: found[:, 0] for block, found in rows.items()}


@torch.inference_mode()
def read(
    model: ChatModel,
    sequences: Sequence[Sequence[int]],
    blocks: Sequence[int],
    places: Sequence[Sequence[int]],
    *,
    token_budget: int = TOKEN_BUDGET,
    advance: Callable[[int], object] | None = None,
) -> dict[int, Float[Tensor, "n p d"]]:
    """Activations after each block at several tokens of each prompt, in one pass; not finite ones as they are.

    Args:
        model: the model.
        sequences: templated prompts, as token ids.
        blocks: block numbers (0-based).
        places: p tokens of every prompt, counted from its end (-1 is the last).
        token_budget: padded tokens in one forward pass.
        advance: called with the number of prompts done after each batch.

    Returns:
        block -> rows in float32 on the CPU.

    Raises:
        ConfigError: no such block, or nothing to read.
    """
    wanted = _numbers(blocks)
    for block in wanted:
        if not 0 <= block < len(model.blocks):
            raise ConfigError(f"block {block} does not exist in {model.name}; expected 0 to {len(model.blocks) - 1}")
    if not sequences or not wanted:
        raise ConfigError("nothing to collect: expected at least one prompt and one block")
    where = torch.tensor([list(each) for each in places])
    rows = {block: torch.empty((*where.shape, model.d_model), dtype=torch.float32) for block in wanted}
    last = max(wanted)
    todo = Batches(
        sequences,
        pad_id=model.pad_id,
        token_budget=token_budget,
        equal_length=model.parts.pads_matter,
        room=model.room,
        work="activations",
    )
    prefix = prefix_of(model, sequences, 0)
    if prefix is not None and any(-min(at) > len(row) - len(prefix) for at, row in zip(places, sequences, strict=True)):
        prefix = None  # a wanted token stands in it
    for batch in todo:
        index = torch.tensor(batch.index)
        behind = batch if prefix is None else prefix.batch(batch.index, sequences, model.pad_id)

        def keep(block: int, index: Tensor = index) -> Callable[[Any], None]:
            def see(output: Any) -> None:
                h = tensor_of(output)
                chosen = (where[index] + h.shape[1]).to(h.device)  # rows end together: pads are on the left
                rows[block][index] = h[torch.arange(len(index), device=h.device)[:, None], chosen].float().cpu()

            return see

        with todo.trying(batch):
            before = NOTHING if prefix is None else prefix.before(len(batch.index))
            run_blocks(model, behind, {block: keep(block) for block in wanted}, until=last, before=before)
            if advance is not None:
                advance(len(batch.index))
    return rows


def _numbers(blocks: Sequence[int]) -> tuple[int, ...]:
    """Block numbers, whatever their integer type, each once."""
    try:
        return tuple(dict.fromkeys(operator.index(block) for block in blocks))
    except TypeError as error:
        raise ConfigError(
            f"blocks={str(blocks)[:40]}: expected a list of block numbers, such as blocks=[13]"
        ) from error


def run_blocks(
    model: ChatModel,
    batch: Batch,
    readers: Mapping[int, Callable[[Any], object]],
    *,
    until: int,
    begun: int = 0,
    before: Before = NOTHING,
) -> None:
    """One forward pass of the decoder over prompts, which ends after block `until`.

    Args:
        model: the model.
        batch: templated prompts.
        readers: block -> called with what the block hands on, after its map if one is applied.
        until: no later block is computed.
        begun: how many tokens at the end of every row are the beginning of its answer.
        before: what it begins behind, under what is applied.
    """
    device, start = model.device, before.start
    attended = batch.attended.to(device)

    def hook_of(reader: Callable[[Any], object]) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            reader(output)

        return hook

    with ExitStack() as stack:
        for block, reader in readers.items():
            stack.callback(model.blocks[block].register_forward_hook(hook_of(reader)).remove)
        stack.enter_context(ended(model, until))  # behind the readers
        stack.enter_context(token_kinds(kinds_of(attended, attended.sum(dim=1) - begun)[:, start:]))
        model.decoder(
            input_ids=batch.ids[:, start:].to(device),
            attention_mask=attended.long(),
            position_ids=positions(attended)[:, start:],
            **past_for(model.decoder, before.cache),
            use_cache=before.cache is not None,
        )
