"""Keys and values under the name that a model takes, whichever of transformers' two that is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bures.models.past import past_for, past_in, past_of
from bures.models.tokens import in_scope_of_pass


class Old(nn.Module):
    def forward(self, input_ids: Tensor, past_key_values: Any = None) -> Any: ...


class New(nn.Module):
    def forward(self, input_ids: Tensor, cache: Any = None) -> Any: ...


class Anything(nn.Module):
    def forward(self, *args: Any, **kwargs: Any) -> Any: ...


@pytest.mark.parametrize(
    ("kind", "name"), [(Old, "past_key_values"), (New, "cache"), (Anything, "past_key_values")], ids=lambda x: str(x)
)
def test_a_model_is_asked_for_the_name_that_it_takes(kind: type[nn.Module], name: str) -> None:
    assert past_for(kind(), 3) == {name: 3}
    assert past_for(kind(), None) == {name: None}


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_they_are_found_under_either_name(name: str) -> None:
    assert past_in({name: 3, "input_ids": 1}) == past_of(SimpleNamespace(**{name: 3})) == 3
    assert past_in({"cache": None, "past_key_values": None}) is past_of(SimpleNamespace()) is None
    assert past_in({"cache": None, name: 3}) == 3


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
@pytest.mark.parametrize(("scope", "moved"), [("last", False), ("generated", True), ("prompt", False), ("all", True)])
def test_a_step_behind_cached_tokens_is_an_answers_whatever_they_are_called(name: str, scope: Any, moved: bool) -> None:
    """Called otherwise than expected, they went unseen, and every token of an answer was taken for a prompt's last."""
    held = SimpleNamespace(get_seq_length=lambda: 4)
    given = {"input_ids": torch.zeros(2, 1, dtype=torch.long), "attention_mask": torch.ones(2, 5), name: held}
    assert in_scope_of_pass(nn.Identity(), (), given, scope).tolist() == [[moved]] * 2
