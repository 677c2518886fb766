"""What comes back of the model before: nothing without an intervention, all of it under the exact inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bures.errors import ConfigError, NumericsError
from bures.jobs.ground_truth import Before, taken_back
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel, wrap
from bures.transport import DiagonalAffine
from helpers import hardening, tiny

BLOCK, TOKENS = 1, 5


def trained(shift: Tensor) -> ChatModel:
    """The model after: one block hands on its output with a vector added."""
    model = hardening.model()

    def add(_: object, __: object, output: Any) -> Any:
        return output + shift

    model.blocks[BLOCK].register_forward_hook(add)
    return model


def moved_by(shift: Tensor) -> Intervention:
    return Intervention({BLOCK: DiagonalAffine("shift", torch.ones_like(shift), shift)})


@pytest.fixture
def shift() -> Tensor:
    return 0.3 * torch.randn(32, generator=torch.Generator().manual_seed(0))


def by_hand(before: Before, model: ChatModel, row: int) -> list[float]:
    """KL at each token of one answer, by whole passes."""
    head, answer = before.heads[row], before.answers[row]
    ids = torch.tensor([[*head, *answer]])
    with torch.no_grad():
        p, q = (
            each.hf(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].double().log_softmax(-1)
            for each in (before.model, model)
        )
    places = slice(len(head) - 1, len(head) + len(answer) - 1)
    return (p.exp() * (p - q)).sum(dim=-1)[places].tolist()


def test_the_inverse_takes_all_back_most_of_it_some_and_its_opposite_less_than_nothing(shift: Tensor) -> None:
    before, after = Before.of(hardening.model(), tiny.PROMPTS, max_new_tokens=TOKENS), trained(shift)
    given = {"inverse": moved_by(-shift), "most": moved_by(-0.8 * shift), "farther": moved_by(2.0 * shift)}
    none, inverse, most, farther = taken_back(before, after, given)
    assert [each.name for each in (none, inverse, most, farther)] == ["none", *given]
    assert none.share is None
    assert none.kl.value > 1e-3
    assert max(inverse.kl.value, inverse.kl_95, inverse.first.value) < 1e-6
    shares = [each.share.value for each in (inverse, most, farther) if each.share is not None]
    assert shares[0] == pytest.approx(1.0, abs=1e-4)
    assert 0.1 < shares[1] < 0.999
    assert shares[2] < 0.0
    assert shares[1] == pytest.approx(1.0 - most.kl.value / none.kl.value)


def test_the_figures_are_those_of_a_loop_over_whole_passes(shift: Tensor) -> None:
    before, after = Before.of(hardening.model(), tiny.PROMPTS, max_new_tokens=TOKENS), trained(shift)
    (found,) = taken_back(before, after, {})
    kls = [by_hand(before, after, row) for row in range(len(tiny.PROMPTS))]
    every = np.concatenate(kls)
    assert found.tokens == len(every)
    assert found.kl.value == pytest.approx(float(every.mean()), rel=1e-4)
    assert found.kl_95 == pytest.approx(float(np.quantile(every, 0.95)), rel=1e-4)
    assert found.first.value == pytest.approx(float(np.mean([each[0] for each in kls])), rel=1e-4)
    assert found.kl.n == len(tiny.PROMPTS)


def test_only_one_model_before_and_after_is_read_and_infinite_figures_are_refused(shift: Tensor) -> None:
    before = Before.of(hardening.model(), tiny.PROMPTS[:2], max_new_tokens=2)
    other = tiny.network("llama")
    other.resize_token_embeddings(tiny.VOCABULARY + 8)
    with pytest.raises(ConfigError, match="before and after a training"):
        taken_back(before, wrap(other, tiny.tokenizer(), "other"), {})
    with pytest.raises(NumericsError):
        taken_back(before, trained(shift * float("nan")), {})
    with pytest.raises(ConfigError, match="nothing to generate"):
        Before.of(before.model, [])
