"""Passes of a prompt's end alone, over the keys and values of what stands before it.

An intervention at the last prompt token leaves every earlier position as it is, in every block: their keys and values
are the original's, computed once. Under it, only the end of a prompt is a new pass.
"""

from __future__ import annotations

from typing import Any

from bures.models.batching import Batch, positions
from bures.models.caches import cache_that_grows
from bures.models.loading import ChatModel
from bures.models.past import past_for
from bures.models.shared_prefix import Prefix, width_of
from bures.models.tokens import kinds_of, token_kinds

CACHED = 256 << 20
"""Bytes of keys and values that are kept for one set of prompts."""


def past_of(model: ChatModel, batch: Batch, end: int, prefix: Prefix | None) -> Any:
    """Keys and values of all but the last `end` positions; None where nothing is left, or the model keeps others."""
    start = width_of(prefix)
    if batch.ids.shape[1] - end <= start:
        return None if prefix is None else prefix.copies(len(batch.index))
    attended = batch.attended[:, :-end].to(model.device)
    with token_kinds(kinds_of(attended, attended.sum(dim=1))[:, start:]):
        returned = model.decoder(
            input_ids=batch.ids[:, start:-end].to(model.device),
            attention_mask=attended.long(),
            position_ids=positions(attended)[:, start:],
            **past_for(model.decoder, None if prefix is None else prefix.copies(len(batch.index))),
            use_cache=True,
        )
    return cache_that_grows(returned)
