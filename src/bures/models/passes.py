"""A pass along a batch, or along the end of one; and what is held of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bures.models.batching import Batch, positions
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.past import past_for
from bures.models.reentry import rows_of
from bures.models.tokens import kinds_of, token_kinds


@dataclass
class Rows:
    """A batch, and where its prompts end.

    Attributes:
        batch: prompts, and what stands behind them.
        lengths: tokens of every row that are its prompt.
    """

    batch: Batch
    lengths: Int[Tensor, " b"]


def tail(model: ChatModel, rows: Rows, start: int, cache: Any = None, *, keep: int = 1, grow: bool = False) -> Any:
    """What the model returns for the places of a batch from `start` on, logits of the last `keep` among it.

    Args:
        model: the model, under what is applied.
        rows: the batch.
        start: the first place that is computed.
        cache: keys and values of those before, which grow; None: there are none.
        keep: for how many places logits are wanted; a model may return more.
        grow: return keys and values even where there were none before.
    """
    batch, lengths = rows.batch, rows.lengths.to(model.device)
    attended = batch.attended.to(model.device)
    with token_kinds(kinds_of(attended, lengths)[:, start:]):
        return model.hf(
            input_ids=batch.ids[:, start:].to(model.device),
            attention_mask=attended.long(),
            position_ids=positions(attended)[:, start:],
            **past_for(model.hf, cache),
            use_cache=grow or cache is not None,
            logits_to_keep=keep,
        )


@dataclass
class Original(Rows):
    """What the original model's pass along one batch left; its rows stand behind what all of them begin with.

    Attributes:
        start: the first place that was computed.
        returned: what the decoder returned, of the last positions alone; None where its head cannot go on from that.
        streams: block -> what it handed on, from `start` on.
        cache: keys and values of all places, if they are kept.
    """

    start: int = 0
    returned: Any = None
    streams: dict[int, Any] = field(default_factory=dict[int, Any])
    cache: Any = None

    def row(self, place: int) -> Original:
        """One row of it."""
        one, alone = slice(place, place + 1), self.batch.row(place)
        streams = {block: rows_of(stream, one) for block, stream in self.streams.items()}
        return Original(alone, self.lengths[one], self.start, None, streams)


@dataclass
class Passed:
    """A pass along one batch.

    Attributes:
        batch: the sequences, as they are laid out.
        intervention: what was applied.
        logits: at the last positions, in float32.
        cache: keys and values of all positions, if they were asked for and can be had.
    """

    batch: Batch
    intervention: Intervention
    logits: Float[Tensor, "b keep vocabulary"]
    cache: Any = None

    @property
    def log_probs(self) -> Float[Tensor, "b keep vocabulary"]:
        """Log-probabilities at the last positions."""
        return torch.log_softmax(self.logits, dim=-1)
