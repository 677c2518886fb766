"""First-answer-token scores of prompts whose residual stream is held after one block.

A map at block l changes nothing before it, so a scan need not compute those blocks again: `PromptStream` walks through
the network once, holds what the block it stands at hands on, and scores an intervention there by running only the
blocks behind. The held-back blocks return the held stream instead of computing; everything else (masks, rotary
embeddings, sliding windows, sharding) is the model's own forward pass, so no architecture needs code of its own.

Where later blocks use more than the stream (the keys and values of an earlier block, say), a pass that enters there is
another one. So every block is tried on one batch before it is entered at, against a whole pass; where the two differ,
passes go on entering at the last block that was right.

What all prompts begin with is a pass of its own, once an intervention; at scope `last`, only the prompts' ends are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bures.data.conversations import PromptLike
from bures.errors import ConfigError
from bures.models.batching import TOKEN_BUDGET
from bures.models.cached_pass import CACHED, past_of
from bures.models.caches import NOTHING, cached_bytes, view
from bures.models.finite import require_finite
from bures.models.first_token import FirstToken
from bures.models.held import Held, held_batches, in_turn, reached
from bures.models.intervention import Intervention, Site, moves_prompts
from bures.models.loading import ChatModel
from bures.models.passes import Rows, tail
from bures.models.reentry import agrees, end_of, entered, keeping, returning, shortened
from bures.models.shared_prefix import Prefix, prefix_of

_WORK = "first tokens"

KEPT = 32 << 20
"""Bytes of the original's log-probabilities that are kept for one set of prompts: every candidate's cost reads them."""


class PromptStream:
    """Prompts on their way through a network, one block at a time.

    Attributes:
        block: the block that was reached; -1 before the first, and then every pass is a whole one.
        entry: the block whose output is held and passes begin behind; earlier than `block` where later blocks use more
            than the stream.
    """

    def __init__(
        self,
        model: ChatModel,
        prompts: Iterable[PromptLike],
        *,
        system: str | None = None,
        begin: Sequence[int] = (),
        token_budget: int = TOKEN_BUDGET,
    ) -> None:
        """Encodes and batches the prompts; memory is prompts x tokens x d, in the model's dtype and on its device.

        Args:
            model: the model.
            prompts: user turns, or conversations that end with one.
            system: optional system prompt.
            begin: tokens with which every answer is made to begin; the first token scored is the one behind them.
            token_budget: padded tokens in one forward pass.

        Raises:
            ConfigError: there are no prompts.
        """
        heads = model.encode(prompts, system=system)
        sequences = [[*ids, *begin] for ids in heads]
        if not sequences:
            raise ConfigError("no prompts: expected at least one")
        self.model = model
        self.block = self.entry = -1
        self._begun = len(begin)
        self._n = len(sequences)
        self._prefix = prefix_of(model, heads, self._begun)
        self._beginning = None if self._prefix is None else Held(self._prefix.alone())
        self._held = held_batches(model, sequences, self._prefix, token_budget=model.room.budget(_WORK, token_budget))
        self._is_stuck = False
        fits = cached_bytes(model, sum(map(len, sequences))) <= CACHED
        self._may_cache = fits and not model.parts.pads_matter
        self._keeps = 4 * self._n * model.vocabulary <= KEPT

    def __len__(self) -> int:
        return self._n

    @torch.inference_mode()
    def advance(self, block: int) -> None:
        """Computes the blocks up to this one and holds its output, where passes may begin behind it.

        Raises:
            ConfigError: the block lies behind, or does not exist.
        """
        if not self.block <= block < len(self.model.blocks):
            raise ConfigError(
                f"block {block} cannot be reached from {self.block}; expected {self.block} to "
                f"{len(self.model.blocks) - 1}, in ascending order"
            )
        if block > self.block and not self._is_stuck:
            self._is_stuck = not self._enter(block)
        self.block = block

    def _enter(self, block: int) -> bool:
        """Holds the output of a block if a pass that begins there is the whole one; says whether it is."""
        known = self.model.entries.behind
        if block not in known:
            tried, found = self._held[-1:], list[bool]()  # the last batch is the shortest
            in_turn(tried, self.model.room, _WORK, lambda held: found.append(self._hold_if_whole(held, block)))
            self._held[-1:] = tried
            known[block] = all(found)
        if not known[block]:
            return False
        in_turn(self._held, self.model.room, _WORK, lambda held: self._hold(held, block))
        if self._beginning is not None:
            self._beginning.stream, self._beginning.entry = reached(self.model, self._beginning, block), block
        self.entry = block
        return True

    def _hold(self, held: Held, block: int) -> None:
        """Holds the output of a block for one batch."""
        if held.entry != block:
            held.stream, held.entry = self._reached(held, block), block

    def _hold_if_whole(self, held: Held, block: int) -> bool:
        """Holds the output of a block for one batch if a pass that begins there is the whole one."""
        if held.whole is None:
            held.whole = self._all(Held(held.batch), Intervention(), self._prefix)
        stream = self._reached(held, block)
        at_block = Held(held.batch, stream, block)
        if not self._agrees(lambda: self._all(at_block, Intervention(), self._prefix), held.whole):
            return False
        held.stream, held.entry = stream, block
        return True

    def _reached(self, held: Held, block: int) -> Any:
        """What a block hands on for a batch."""
        before = NOTHING if self._prefix is None else self._prefix.before(len(held.batch.index))
        return reached(self.model, held, block, before, self._begun)

    def first_token(self, intervention: Intervention) -> FirstToken:
        """Log-probabilities of the first answer token under an intervention (prompts x vocabulary, on the CPU).

        Raises:
            ConfigError: it touches what lies before the held stream.
            NumericsError: logits are NaN or infinite.
        """
        return FirstToken(self.read(intervention, lambda found, _: found.log_probs.cpu()))

    @torch.inference_mode()
    def read(
        self, intervention: Intervention, what: Callable[[FirstToken, Callable[[], FirstToken]], Tensor]
    ) -> Float[Tensor, "n ..."]:
        """What is read off the first answer tokens under an intervention; their distributions are not kept.

        Args:
            intervention: what is applied.
            what: called with those of some prompts, and with what gives the original model's; one row a prompt.

        Raises:
            ConfigError: it touches what lies before the held stream.
            NumericsError: logits are NaN or infinite.
        """
        for site in intervention.sites:
            if site.block < self.block or (site.block == self.block and site.where != "output"):
                raise ConfigError(f"{Site(*site)} lies before block {self.block}, whose output is held")
        rows: list[Tensor | None] = [None] * self._n
        prefix = self._under(intervention)

        def score(held: Held) -> None:
            found = self._logits(held, intervention, prefix)
            require_finite(found)
            made = what(FirstToken(found), lambda: FirstToken(self._original(held)))
            for i, row in zip(held.batch.index, made, strict=True):
                rows[i] = row

        in_turn(self._held, self.model.room, _WORK, score)
        return torch.stack([row for row in rows if row is not None])

    def _under(self, intervention: Intervention) -> Prefix | None:
        """What all prompts begin with, under an intervention that moves prompts."""
        if self._prefix is None or self._beginning is None or not moves_prompts(intervention):
            return self._prefix
        begin = self._beginning
        with intervention.applied(self.model):
            return self._prefix.again(self.model, entered(self.model, begin.entry, begin.stream), begin.entry)

    def _original(self, held: Held) -> Float[Tensor, "b vocabulary"]:
        """Log-probabilities of one batch in the original model: kept, or by its head alone, where that can go on."""
        entries = self.model.entries
        if held.whole is not None and (self._keeps or entries.at_head is False):
            return held.whole
        if held.returned is None:
            returned: dict[object, Any] = {}
            hook = self.model.decoder.register_forward_hook(keeping(returned, 0))
            try:
                found = self._all(held, Intervention(), self._prefix)
            finally:
                hook.remove()
            held.returned = None if entries.at_head is False else shortened(returned[0], 1)
            if entries.at_head is None:
                entries.at_head = held.returned is not None and self._agrees(lambda: self._original(held), found)
            by_head = entries.at_head and not self._keeps
            held.returned, held.whole = (held.returned, None) if by_head else (None, found)
            return found
        with returning(self.model.decoder, held.returned):
            return self._all(held, Intervention(), self._prefix)

    def _agrees(self, computed: Callable[[], Tensor], whole: Tensor) -> bool:
        return agrees(computed, whole, self.model.hf.dtype)

    def _logits(self, held: Held, intervention: Intervention, prefix: Prefix | None) -> Float[Tensor, "b vocabulary"]:
        """Log-probabilities of one batch; where only the prompt's last token is moved, by a pass of that alone."""
        entries = self.model.entries
        if not intervention.maps:
            return self._original(held)
        if intervention.tokens != "last" or entries.over_cache is False or not self._has_past(held):
            return self._all(held, intervention, prefix)
        if entries.over_cache is None:
            whole = self._all(held, intervention, prefix)
            entries.over_cache = self._agrees(lambda: self._end(held, intervention), whole)
            return whole
        return self._end(held, intervention)

    def _has_past(self, held: Held) -> bool:
        """Whether the keys and values of what stands before the prompts' ends are held, or can be."""
        if held.cache is None and self._may_cache:
            held.cache = past_of(self.model, held.batch, 1 + self._begun, self._prefix)
        return held.cache is not None

    def _end(self, held: Held, intervention: Intervention) -> Float[Tensor, "b vocabulary"]:
        """Log-probabilities of one batch by a pass of the prompts' ends."""
        end = 1 + self._begun
        at_end = Held(held.batch, end_of(held.stream, end), held.entry)
        return self._pass(at_end, intervention, held.batch.ids.shape[1] - end, view(held.cache))

    def _all(self, held: Held, intervention: Intervention, prefix: Prefix | None) -> Float[Tensor, "b vocabulary"]:
        """Log-probabilities of one batch by a pass of all behind what the prompts begin with."""
        return self._pass(held, intervention, *(NOTHING if prefix is None else prefix.before(len(held.batch.index))))

    def _pass(self, held: Held, intervention: Intervention, start: int, cache: Any) -> Float[Tensor, "b vocabulary"]:
        model = self.model
        rows = Rows(held.batch, held.batch.attended.sum(dim=1) - self._begun)
        with intervention.applied(model), entered(model, held.entry, held.stream):
            logits = tail(model, rows, start, cache).logits
        return torch.log_softmax(logits[:, -1].float(), dim=-1)  # a model may return every position


def first_token(
    model: ChatModel,
    prompts: Iterable[PromptLike],
    intervention: Intervention,
    *,
    system: str | None = None,
    token_budget: int = TOKEN_BUDGET,
) -> FirstToken:
    """Log-probabilities of the first answer token under an intervention, by one whole forward pass."""
    return PromptStream(model, prompts, system=system, token_budget=token_budget).first_token(intervention)
