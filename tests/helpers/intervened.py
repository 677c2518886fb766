"""A tiny model under one map, and what its log-probabilities then have to be, computed without a hook of bures."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor

from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.results.records import Scope
from helpers import reference

BLOCK = 1


def the_map(model: ChatModel) -> reference.LowRankAffine:
    return reference.low_rank(model.d_model, seed=3)


def intervention(model: ChatModel, scope: Scope | None) -> Intervention:
    return Intervention() if scope is None else Intervention({BLOCK: the_map(model)}, tokens=scope)


@torch.inference_mode()
def log_probs(model: ChatModel, ids: list[int], scope: Scope | None, prompt: int) -> Tensor:
    """(s, v) in float64; the first `prompt` tokens are the prompt."""
    places = {
        None: slice(0, 0),
        "all": slice(None),
        "prompt": slice(0, prompt),
        "last": slice(prompt - 1, prompt),
        "generated": slice(prompt, None),
    }[scope]
    with ExitStack() as stack:
        if scope is not None:
            move = reference.at(places, reference.dense(the_map(model)))
            stack.enter_context(reference.replaced(model.blocks[BLOCK], move))
        logits = model.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return torch.log_softmax(logits.double(), dim=-1)
