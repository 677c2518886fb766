"""A checkpoint whose own number format overflows is computed in float32, and a note says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from bures.errors import NumericsError
from bures.models.finite import require_finite
from bures.models.offloading import device_of
from bures.models.quantization import is_packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TEXTS = ("The river runs through three countries before it reaches the sea.", "2 + 2 = 4")


def widen(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Tries two texts, and goes over to float32 where the logits are NaN or infinite.

    Returns:
        What was found, for the results; None where nothing overflows.
    """
    ids: Any = [cast("Any", tokenizer)(text)["input_ids"] for text in _TEXTS]
    return widen_for(hf, ids)


@torch.inference_mode()
def widen_for(hf: PreTrainedModel, sequences: Iterable[Sequence[int]]) -> str | None:
    """Tries token sequences, and goes over to float32, in place, where the logits are NaN or infinite."""
    if hf.dtype not in (torch.float16, torch.bfloat16) or is_packed(hf):
        return None
    device = device_of(hf)
    narrow = str(hf.dtype).removeprefix("torch.")
    for ids in sequences:
        if not ids:
            continue
        try:
            require_finite(cast("Any", hf)(input_ids=torch.tensor([list(ids)], device=device)).logits)
        except NumericsError:
            hf.float()
            return f"The checkpoint's own {narrow} overflows; everything was computed in float32 (--dtype auto)."
    return None
