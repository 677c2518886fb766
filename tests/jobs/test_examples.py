"""Log-probabilities of answers are the model's own, whatever it does to the logits of its head."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import nn

from bures.jobs.examples import Example, answer_states, log_probs
from bures.models.loading import ChatModel, wrap
from helpers import tiny


def family(name: str) -> ChatModel:
    """With logits that are large enough for a cap to be felt."""
    network = tiny.network(name)
    with torch.no_grad():
        cast("nn.Linear", network.get_output_embeddings()).weight.mul_(25.0)
    return wrap(network, tiny.tokenizer(), name)


@pytest.mark.parametrize(("name", "plain"), [("llama", True), ("gemma2", False), ("cohere", False)])
def test_they_are_those_of_a_whole_pass(name: str, plain: bool) -> None:
    model = family(name)
    (head,) = model.encode(["Paint the gate"])
    row = Example(tuple(head), tuple(head[2:7]))
    ids = torch.tensor([[*row.prompt, *row.answer]])
    with torch.no_grad():
        states = answer_states(model, [row])
        found = log_probs(model, states)
        whole = model.hf(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].log_softmax(dim=-1)
        by_head = cast("nn.Linear", model.hf.get_output_embeddings())(states).log_softmax(dim=-1)
    expected = whole[len(head) - 1 : -1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(by_head, expected, atol=1e-3) is plain
    assert "forward" not in vars(model.decoder)
