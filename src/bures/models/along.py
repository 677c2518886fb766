"""The original model along sequences that do not change, and interventions along them: nothing is computed twice.

What an intervention costs is measured along the same answers for every candidate, and all of them answer the same
prompts. The original model runs along these once. Kept are, as far as there is room: what its decoder returns (its head
computes the log-probabilities from that again, which is cheap), the residual streams after some of its blocks, and its
keys and values. An intervention's pass then begins

- behind the last block before its first site;
- where it leaves the prompts alone but for their last token, at that token;
- else behind what all prompts begin with, which is a pass of its own, once an intervention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bures.models.batching import Batch
from bures.models.caches import cache_that_grows, cached_bytes, reach, spliced, view
from bures.models.finite import require_finite
from bures.models.intervention import Intervention, moves_prompts
from bures.models.loading import ChatModel
from bures.models.passes import Original, Passed, tail
from bures.models.reentry import agrees, end_of, entered, keeping, returning, shortened
from bures.models.shared_prefix import Prefix, prefix_of

STREAMS = 128 << 20
"""Bytes of residual streams that are kept for one set of sequences."""

CACHED = 128 << 20
"""Bytes of keys and values that are kept for one set of sequences."""


def blocks_held(n_blocks: int, each: int, room: int = STREAMS) -> tuple[int, ...]:
    """The blocks whose streams are kept, of `each` bytes, so that they fit: the last one, and others evenly before."""
    fitting = room // max(1, each)
    return tuple(range(n_blocks - 1, -1, -n_blocks // fitting)) if fitting else ()


class Along:
    """The original model along sequences that do not change.

    Attributes:
        model: the model.
        sequences: token ids, prompts with what stands behind them.
        held_blocks: the blocks whose streams are kept.
        goes_on: False where a pass turned out to leave nothing that answers could go on from.
    """

    def __init__(
        self,
        model: ChatModel,
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]] | None = None,
        *,
        streams: int = STREAMS,
        cached: int = CACHED,
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: the model.
            prompts: token ids.
            answers: what stands behind them; None: nothing does, and these are plain text without a last prompt token.
            streams: bytes of residual streams that may be kept.
            cached: bytes of keys and values that may be kept.
        """
        self.model = model
        tails = [()] * len(prompts) if answers is None else answers
        self.goes_on = True
        self.sequences = [[*prompt, *answer] for prompt, answer in zip(prompts, tails, strict=True)]
        self._prompts = prompts
        self._beyond = answers is None
        n, each = len(model.blocks), sum(map(len, self.sequences)) * model.d_model * model.hf.dtype.itemsize
        self.held_blocks = blocks_held(n, each, streams)
        self._room = 0 if model.parts.pads_matter or self._beyond else cached
        self._passes: dict[tuple[int, ...], Original] = {}
        self._prefix: Prefix | None = None
        self._beginning: dict[int, Any] | None = None  # None: it was not looked for
        self._under: tuple[Intervention, int, Prefix] | None = None

    @torch.inference_mode()
    def log_probs(self, batch: Batch, keep: int, intervention: Intervention) -> Float[Tensor, "b keep vocabulary"]:
        """Float32 log-probabilities at the last `keep` positions of a left-padded batch; see `passed`."""
        return self.passed(batch, keep, intervention).log_probs

    @torch.inference_mode()
    def passed(self, batch: Batch, keep: int, intervention: Intervention, *, grow: bool = False) -> Passed:
        """A pass along some of the sequences.

        Args:
            batch: some of the sequences; the same ones whenever they come.
            keep: at how many positions, from the last one back, log-probabilities are wanted.
            intervention: what is applied.
            grow: keep its keys and values, so that it can go on.

        Raises:
            NumericsError: logits are NaN or infinite.
        """
        held = self._passes.get(batch.index)
        if held is None:
            if intervention.maps and not self.held_blocks and not self._room:
                held = self._laid_out(batch)  # nothing of the original's pass would serve
            else:
                held, logits = self._first(batch, keep)
                if not intervention.maps and not grow:
                    return Passed(held.batch, intervention, logits)
        if intervention.maps:
            return self._moved(held, keep, intervention, grow)
        if not grow:
            return Passed(held.batch, intervention, self._by_head(held, keep))
        if held.cache is None:
            return Passed(held.batch, intervention, *self._behind_prefix(held, keep, intervention, -1, grow=True))
        return Passed(held.batch, intervention, self._by_head(held, keep), view(held.cache))

    def _moved(self, held: Original, keep: int, intervention: Intervention, grow: bool) -> Passed:
        """A pass under an intervention, of as little as it changes."""
        entries = self.model.entries
        entry = -1 if grow and held.cache is None else self._entry(held, keep, intervention)
        start = held.batch.ids.shape[1] - keep
        if held.cache is None or start <= held.start or moves_prompts(intervention) or entries.over_cache is False:
            found = self._behind_prefix(held, keep, intervention, entry, grow)
        elif entries.over_cache is None:
            found = self._behind_prefix(held, keep, intervention, entry, grow)
            entries.over_cache = self._are_same(
                held, keep, lambda: self._ends(held, keep, intervention, entry)[0], found[0]
            )
        else:
            found = self._ends(held, keep, intervention, entry)
        logits, cache = found
        if cache is not None and held.cache is not None:
            cache = spliced(held.cache, cache, entry)
        return Passed(held.batch, intervention, logits, cache if grow else None)

    def _ends(self, held: Original, keep: int, intervention: Intervention, entry: int) -> tuple[Tensor, Any]:
        """A pass of the last positions alone, over the original's keys and values."""
        start = held.batch.ids.shape[1] - keep
        within = entered(self.model, entry, end_of(held.streams.get(entry), keep))
        with intervention.applied(self.model), within:
            return self._pass(held, keep, start, view(held.cache, upto=start))

    def _behind_prefix(
        self, held: Original, keep: int, intervention: Intervention, entry: int, grow: bool = False
    ) -> tuple[Tensor, Any]:
        """A pass of all positions behind what all sequences begin with."""
        cache = None
        if held.start:
            cache = self._prefix_under(intervention, entry).copies(len(held.batch.index))
        with intervention.applied(self.model), entered(self.model, entry, held.streams.get(entry)):
            return self._pass(held, keep, held.start, cache, grow=grow)

    def _prefix_under(self, intervention: Intervention, entry: int) -> Prefix:
        """What all sequences begin with, under an intervention."""
        prefix, begun = self._prefix, self._beginning or {}
        if prefix is None:
            raise LookupError("rows that begin alike were laid out behind a beginning")
        if not moves_prompts(intervention):
            return prefix
        if self._under is None or self._under[0] is not intervention or self._under[1] != entry:
            with intervention.applied(self.model):
                again = prefix.again(self.model, entered(self.model, entry, begun.get(entry)), entry)
            self._under = intervention, entry, again
        return self._under[2]

    def _pass(
        self, held: Original, keep: int, start: int, cache: Any, *, grow: bool = False
    ) -> tuple[Float[Tensor, "b keep vocabulary"], Any]:
        """A pass of what stands behind a place, under what is applied; and its keys and values, if they can be had."""
        returned = tail(self.model, held, start, cache, keep=keep, grow=grow)
        kept = returned.logits[:, -keep:].float()  # a model may return every position all the same
        require_finite(kept, held.batch.attended[:, -keep:].to(kept.device))
        return kept, cache_that_grows(returned) if grow or cache is not None else None

    # The original's pass ----------------------------------------------------------------------------------------------

    def _laid_out(self, batch: Batch) -> Original:
        """A batch behind what all sequences begin with; nothing is computed of it."""
        if self._beginning is None:
            self._beginning = self._begin()
        index, width = batch.index, batch.ids.shape[1]
        lengths = torch.tensor([width + 1 if self._beyond else len(self._prompts[i]) for i in index])
        if self._prefix is None:
            return Original(batch, lengths, 0)
        return Original(self._prefix.batch(index, self.sequences, self.model.pad_id), lengths, len(self._prefix))

    def _begin(self) -> dict[int, Any]:
        """Looks for what all sequences begin with; the streams of that."""
        streams: dict[int, Any] = {}
        if self._beyond:
            return streams
        longest = max(len(all_) - len(prompt) for all_, prompt in zip(self.sequences, self._prompts, strict=True))
        self._prefix = prefix_of(self.model, self._prompts, longest)
        if self._prefix is not None:
            with self._keeping(streams):
                self._prefix.again(self.model, nullcontext())
        return streams

    def _keeping(self, streams: dict[int, Any]) -> ExitStack:
        """Inside, the streams of the blocks that may be entered behind are kept."""
        with ExitStack() as stack:
            for block in self.held_blocks:
                if self.model.entries.behind.get(block) is not False:
                    hook = keeping(streams, block)
                    stack.callback(self.model.blocks[block].register_forward_hook(hook).remove)
            return stack.pop_all()

    def _first(self, batch: Batch, keep: int) -> tuple[Original, Tensor]:
        """The original model's pass; holds what later ones may begin with."""
        held, entries = self._laid_out(batch), self.model.entries
        others = {
            of: each for of, each in self._passes.items() if not {*of} & {*batch.index}
        }  # memory may have run out
        self._passes = others
        used = sum(each.batch.ids.numel() for each in others.values() if each.cache is not None)
        rows, width = held.batch.ids.shape
        grow = width < reach(self.model) and cached_bytes(self.model, used + rows * width) <= self._room
        returned: dict[Any, Any] = {}
        with self._keeping(held.streams):
            hook = self.model.decoder.register_forward_hook(keeping(returned, "decoder"))
            try:
                logits, cache = self._behind_prefix(held, keep, Intervention(), -1, grow)
            finally:
                hook.remove()
        held.cache = cache if cache is not None and len(cache.layers) == len(self.model.blocks) else None
        if entries.at_head is not False:
            held.returned = shortened(returned["decoder"], keep)
        if entries.at_head is None and held.returned is not None:
            entries.at_head = self._are_same(held, keep, lambda: self._by_head(held, keep), logits)
        held.returned = held.returned if entries.at_head else None
        self._passes[batch.index] = held
        return held, logits

    def _by_head(self, held: Original, keep: int) -> Tensor:
        """The original's logits again: by its head alone, where that can go on, else by a whole pass."""
        again = nullcontext() if held.returned is None else returning(self.model.decoder, held.returned)
        with again:
            return self._behind_prefix(held, keep, Intervention(), -1)[0]

    def _entry(self, held: Original, keep: int, intervention: Intervention) -> int:
        """The last block before an intervention's first site behind which a pass may begin; -1: none."""
        entries = self.model.entries
        first = min(site.block if site.where == "output" else site.block - 1 for site in intervention.sites)
        for block in sorted((block for block in held.streams if block <= first), reverse=True):
            if block not in entries.behind:
                row = held.row(len(held.batch.index) - 1)
                whole, _ = self._behind_prefix(row, keep, Intervention(), -1)
                entries.behind[block] = self._are_same(
                    row, keep, lambda row=row, at=block: self._behind_prefix(row, keep, Intervention(), at)[0], whole
                )
            if entries.behind[block]:
                return block
            del held.streams[block]
        return -1

    def _are_same(self, held: Original, keep: int, computed: Callable[[], Tensor], whole: Tensor) -> bool:
        """Whether logits, computed another way, say what those of a whole pass do, wherever there are tokens."""
        is_real = held.batch.attended[:, -keep:].to(whole.device)

        def read(logits: Tensor) -> Tensor:
            return torch.log_softmax(logits[is_real], dim=-1)

        return agrees(lambda: read(computed()), read(whole), self.model.hf.dtype)
