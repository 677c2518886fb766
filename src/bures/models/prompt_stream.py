"""First-answer-token scores of prompts whose residual stream is held after one block.

A map at block l changes nothing before it, so a scan need not compute those blocks again: `PromptStream` walks through
the network once, holds what the block it stands at hands on, and scores an intervention there by running only the
blocks behind. The held-back blocks return the held stream instead of computing; everything else (masks, rotary
embeddings, sliding windows, sharding) is the model's own forward pass, so no architecture needs code of its own.

Where later blocks use more than the stream (the keys and values of an earlier block, say), a pass that enters there is
another one. So every block is tried on one batch before it is entered at, against a whole pass; where the two differ,
passes go on entering at the last block that was right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bures.data.conversations import PromptLike
from bures.errors import ConfigError, NumericsError
from bures.models.activations import run_blocks
from bures.models.batching import TOKEN_BUDGET, Batch, batches, positions
from bures.models.cached_pass import CACHED, cached_bytes, end_log_probs, past_of
from bures.models.finite import require_finite
from bures.models.intervention import Intervention, Site
from bures.models.loading import ChatModel
from bures.models.reentry import entered, same
from bures.models.room import Room, is_out_of_memory
from bures.models.tokens import kinds_of, token_kinds


@dataclass(frozen=True)
class FirstToken:
    """Log-probabilities at the answer's first token, or the first that is not forced, one row a prompt (on the CPU)."""

    log_probs: Float[Tensor, "n vocabulary"]

    def log_odds(self, tokens: Sequence[int]) -> Float[Tensor, " n"]:
        """Per prompt, log p(refusal tokens) - log p(all others) in float64; the lower, the less refusal.

        Raises:
            ConfigError: no tokens are given.
        """
        if not tokens:
            raise ConfigError("no refusal tokens; expected those of the model's own refusals")
        inside = torch.logsumexp(self.log_probs[:, list(tokens)].double(), dim=1).clamp(min=-100.0, max=-1e-12)
        return inside - torch.log(-torch.expm1(inside))

    def kl_to(self, other: FirstToken) -> float:
        """Mean over prompts of KL(self || other) in nats.

        Raises:
            NumericsError: it is infinite.
        """
        p, q = self.log_probs, other.log_probs
        each = torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum(dim=-1).double()
        if not bool(torch.isfinite(each).all()):
            raise NumericsError("a token that the one allows has probability 0 under the other: their KL is infinite")
        return float(each.mean().clamp(min=0.0))


_WORK = "first tokens"


@dataclass(eq=False)
class Held:
    """One batch and the residual stream that a block hands on for it.

    Attributes:
        batch: the prompts.
        stream: what the block handed on.
        entry: the block, behind which passes begin; -1: none, and passes are whole ones.
        whole: log-probabilities of a whole pass, if they were asked for.
        cache: keys and values of all positions before the prompt's last, if they were asked for.
    """

    batch: Batch
    stream: Any = None
    entry: int = -1
    whole: Tensor | None = None
    cache: Any = None


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
        sequences = [[*ids, *begin] for ids in model.encode(prompts, system=system)]
        if not sequences:
            raise ConfigError("no prompts: expected at least one")
        self.model = model
        self.block = self.entry = -1
        self._begun = len(begin)
        self._n = len(sequences)
        budget, alike = model.room.budget(_WORK, token_budget), model.parts.pads_matter
        self._held = [
            Held(batch) for batch in batches(sequences, pad_id=model.pad_id, token_budget=budget, equal_length=alike)
        ]
        self._is_stuck = False
        self._may_cache = cached_bytes(model, sum(map(len, sequences))) <= CACHED and not alike

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
        self.entry = block
        return True

    def _hold(self, held: Held, block: int) -> None:
        """Holds the output of a block for one batch."""
        if held.entry != block:
            held.stream, held.entry = self._reached(held, block), block

    def _hold_if_whole(self, held: Held, block: int) -> bool:
        """Holds the output of a block for one batch if a pass that begins there is the whole one."""
        if held.whole is None:
            held.whole = self._all(Held(held.batch), Intervention())
        reached = self._reached(held, block)
        try:
            found = self._all(Held(held.batch, reached, block), Intervention())
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False  # a modelling file misses what a held-back block did not leave
        if not same(found, held.whole, self.model.hf.dtype):
            return False
        held.stream, held.entry = reached, block
        return True

    def _reached(self, held: Held, block: int) -> Any:
        """What a block hands on for a batch."""
        reached: list[Any] = []
        with entered(self.model, held.entry, held.stream):
            run_blocks(self.model, held.batch, {block: reached.append}, until=block, begun=self._begun)
        return reached[0]

    @torch.inference_mode()
    def first_token(self, intervention: Intervention) -> FirstToken:
        """Log-probabilities of the first answer token under an intervention.

        Raises:
            ConfigError: it touches what lies before the held stream.
            NumericsError: logits are NaN or infinite.
        """
        for site in intervention.sites:
            if site.block < self.block or (site.block == self.block and site.where != "output"):
                raise ConfigError(f"{Site(*site)} lies before block {self.block}, whose output is held")
        rows: list[Tensor | None] = [None] * self._n

        def score(held: Held) -> None:
            for i, logits in zip(held.batch.index, self._logits(held, intervention), strict=True):
                rows[i] = logits

        in_turn(self._held, self.model.room, _WORK, score)
        found = torch.stack([row for row in rows if row is not None])
        require_finite(found)
        return FirstToken(found)

    def _logits(self, held: Held, intervention: Intervention) -> Float[Tensor, "b vocabulary"]:
        """Log-probabilities of one batch; where only the prompt's last token is moved, by a pass of that alone."""
        entries = self.model.entries
        if intervention.tokens != "last" or not intervention.maps or not self._may_cache or entries.over_cache is False:
            return self._all(held, intervention)
        try:
            found = self._end(held, intervention)
        except NumericsError:
            raise
        except Exception as error:
            if is_out_of_memory(error) or entries.over_cache:
                raise
            found = None  # a cache that cannot be cut back, or a modelling file that wants the whole of it
        if entries.over_cache is None:
            whole = self._all(held, intervention)
            entries.over_cache = found is not None and same(found, whole, self.model.hf.dtype)
            return whole
        return self._all(held, intervention) if found is None else found

    def _end(self, held: Held, intervention: Intervention) -> Float[Tensor, "b vocabulary"] | None:
        """Log-probabilities of one batch by a pass of the prompts' ends; None where there is nothing before them."""
        end = 1 + self._begun
        if held.cache is None:
            held.cache = past_of(self.model, held.batch, end)
        if held.cache is None:
            return None
        behind = held.entry, held.stream
        return end_log_probs(self.model, held.batch, end, held.cache, behind, intervention).cpu()

    def _all(self, held: Held, intervention: Intervention) -> Float[Tensor, "b vocabulary"]:
        model = self.model
        attended = held.batch.attended.to(model.device)
        kinds = kinds_of(attended, attended.sum(dim=1) - self._begun)
        with intervention.applied(model), token_kinds(kinds), entered(model, held.entry, held.stream):
            logits = model.hf(
                input_ids=held.batch.ids.to(model.device),
                attention_mask=attended.long(),
                position_ids=positions(attended),
                use_cache=False,
                logits_to_keep=1,
            ).logits
        return torch.log_softmax(logits[:, -1].float(), dim=-1).cpu()  # a model may return every position


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
