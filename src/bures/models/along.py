"""Log-probabilities along fixed token sequences, under one intervention after another, nothing computed twice.

What an intervention costs is measured along the same sequences for every candidate. The original model runs along them
once: what its decoder returns is kept (its head computes the log-probabilities from that again, which is cheap), and so
are the residual streams after some of its blocks, from which an intervention's pass begins at the last one before its
first site. How many streams are kept depends on the room for them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bures.models.batching import Batch, positions
from bures.models.finite import require_finite
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.reentry import entered, returning, same
from bures.models.room import is_out_of_memory
from bures.models.tokens import kinds_of, token_kinds

STREAMS = 256 << 20
"""Bytes of residual streams that are kept for one set of sequences."""


@dataclass
class _Pass:
    """What the original model's pass along one batch left.

    Attributes:
        returned: what the decoder returned, of the last positions alone; None where its head cannot go on from that.
        streams: block -> what it handed on.
    """

    returned: Any = None
    streams: dict[int, Any] = field(default_factory=dict[int, Any])


class Along:
    """The original model along sequences that do not change."""

    def __init__(self, model: ChatModel, sequences: Sequence[Sequence[int]], *, streams: int = STREAMS) -> None:
        """Nothing is computed yet.

        Args:
            model: the model.
            sequences: token ids, prompts with their answers.
            streams: bytes of residual streams that may be kept.
        """
        self.model = model
        self.sequences = sequences
        each = sum(map(len, sequences)) * model.d_model * model.hf.dtype.itemsize
        fitting, n = streams // max(1, each), len(model.blocks)
        self.held_blocks = tuple(range(n - 1, -1, -n // fitting)) if fitting else ()
        self._passes: dict[tuple[int, ...], _Pass] = {}

    @torch.inference_mode()
    def log_probs(
        self, batch: Batch, prompt_lengths: Tensor, keep: int, intervention: Intervention
    ) -> Float[Tensor, "b keep vocabulary"]:
        """Float32 log-probabilities at the last `keep` positions of a left-padded batch.

        Args:
            batch: some of the sequences; the same ones with the same padding whenever they come.
            prompt_lengths: tokens of every row that are its prompt.
            keep: how many positions.
            intervention: what is applied.

        Raises:
            NumericsError: logits are NaN or infinite.
        """
        held = self._passes.get(batch.index)
        if held is None and intervention.maps and not self.held_blocks:
            held = _Pass()  # nothing of the original's pass would serve
        if held is None:
            original = self._first(batch, prompt_lengths, keep)
            if not intervention.maps:
                return original
            held = self._passes[batch.index]
        if not intervention.maps:
            again = nullcontext() if held.returned is None else returning(self.model.decoder, held.returned)
            return self._pass(batch, prompt_lengths, keep, again)
        with intervention.applied(self.model):
            return self._pass(batch, prompt_lengths, keep, self._behind(held, intervention))

    def _pass(
        self, batch: Batch, prompt_lengths: Tensor, keep: int, within: AbstractContextManager[object]
    ) -> Float[Tensor, "b keep vocabulary"]:
        """One pass, of which what is held back is known."""
        device = self.model.device
        attended = batch.attended.to(device)
        with within, token_kinds(kinds_of(attended, prompt_lengths.to(device))):
            logits = self.model.hf(
                input_ids=batch.ids.to(device),
                attention_mask=attended.long(),
                position_ids=positions(attended),
                use_cache=False,
                logits_to_keep=keep,
            ).logits
        kept = logits[:, -keep:].float()  # a model may return every position all the same
        require_finite(kept, attended[:, -keep:])
        return torch.log_softmax(kept, dim=-1)

    def _first(self, batch: Batch, prompt_lengths: Tensor, keep: int) -> Float[Tensor, "b keep vocabulary"]:
        """The original model's pass; holds what later ones may begin with."""
        held = _Pass()
        with ExitStack() as stack:
            for block in self.held_blocks:
                if self.model.entries.behind.get(block) is not False:
                    hook = _keeping(held.streams, block)
                    stack.callback(self.model.blocks[block].register_forward_hook(hook).remove)
            returned: dict[str, Any] = {}
            stack.callback(self.model.decoder.register_forward_hook(_keeping(returned, "decoder")).remove)
            original = self._pass(batch, prompt_lengths, keep, nullcontext())
        if self.model.entries.at_head is not False:
            held.returned = _shortened(returned["decoder"], keep)
        self._try(batch, prompt_lengths, keep, held, original)
        self._passes[batch.index] = held
        return original

    def _try(self, batch: Batch, prompt_lengths: Tensor, keep: int, held: _Pass, original: Tensor) -> None:
        """Finds out where passes may begin, as far as that is not known of the model, and drops what does not serve."""
        entries, is_real = self.model.entries, batch.attended[:, -keep:].to(original.device)

        def is_whole(within: AbstractContextManager[object]) -> bool:
            try:
                found = self._pass(batch, prompt_lengths, keep, within)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                return False  # a modelling file misses what a held-back block did not leave
            return same(found[is_real], original[is_real], self.model.hf.dtype)

        if entries.at_head is None:
            entries.at_head = held.returned is not None and is_whole(returning(self.model.decoder, held.returned))
        for block, stream in held.streams.items():
            if block not in entries.behind:
                entries.behind[block] = is_whole(entered(self.model, block, stream))
        held.returned = held.returned if entries.at_head else None
        held.streams = {block: stream for block, stream in held.streams.items() if entries.behind[block]}

    def _behind(self, held: _Pass, intervention: Intervention) -> AbstractContextManager[object]:
        """Holds back the blocks that the intervention leaves as they are, as far as a stream is held."""
        first = min(site.block if site.where == "output" else site.block - 1 for site in intervention.sites)
        block = max((block for block in held.streams if block <= first), default=None)
        return nullcontext() if block is None else entered(self.model, block, held.streams[block])


def _keeping(found: dict[Any, Any], key: object) -> Any:
    def hook(_: object, __: object, output: Any) -> None:
        found[key] = output

    return hook


def _shortened(returned: Any, keep: int) -> Any:
    """What a decoder returned, of the last positions alone; None where it is not what transformers' own return."""
    states: object = getattr(returned, "last_hidden_state", None)
    if not isinstance(states, Tensor):
        return None
    made = copy.copy(returned)
    made.last_hidden_state = states[:, -keep:].clone()
    return made
