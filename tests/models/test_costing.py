"""The cost model: seconds of passes by hand, and the three figures of a machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bures.models.costing import SOFTMAX, Machine, Pass, probed, token_passes
from bures.models.foreseen_prompts import Prompts
from bures.models.memory import Shape, on_meta, shape_of
from helpers import tiny

SHAPE = Shape(
    weights=4000,
    while_loading=0,
    itemsize=4,
    vocabulary=100,
    width=10,
    inner=20,
    blocks=4,
    cached=80,
    resident=800,
    active=800,
)
MACHINE = Machine(flops=1000.0, bandwidth=500.0, call=0.5)


def test_a_pass_takes_what_it_takes_by_hand() -> None:
    read = 800 * 4 / 500
    many = Pass(positions=100, depth=0.5)
    assert MACHINE.seconds([many], SHAPE) == pytest.approx(0.5 * (4 * 0.5 + 2 * 800 * 100 / 1000 + read))
    thrice = Pass(positions=1, times=3)
    one = 4 * 0.5 + 2 * 800 / 1000 + read
    assert MACHINE.seconds([thrice], SHAPE) == pytest.approx(3 * one)
    head = 2 * 100 * 10 * 7 / 1000 + 100 * 10 * 4 / 500 + SOFTMAX * 4 * 7 * 100 / 500
    assert MACHINE.seconds([Pass(1, logits=7)], SHAPE) == pytest.approx(one + head)


def test_of_experts_only_those_are_read_that_a_token_goes_to() -> None:
    mixture = replace(SHAPE, active=100)
    few, many = (MACHINE.seconds([Pass(n)], mixture) for n in (2, 50))
    assert few == pytest.approx(2 + 2 * 100 * 2 / 1000 + 200 * 4 / 500)
    assert many == pytest.approx(2 + 2 * 100 * 50 / 1000 + 800 * 4 / 500)


def test_token_passes_are_positions_times_depth_times_passes() -> None:
    assert token_passes([Pass(10, 0.5, times=3), Pass(7)]) == 22.0


def test_the_weights_between_embedding_and_head_are_counted() -> None:
    network = tiny.network("llama")
    ends = ("model.embed_tokens.weight", "lm_head.weight")
    expected = sum(p.numel() for name, p in network.named_parameters() if name not in ends)
    shape = shape_of(network.config, network, dtype=torch.float32)
    assert (shape.resident, shape.active) == (expected, expected)


def test_a_token_meets_the_experts_that_it_goes_to() -> None:
    config = AutoConfig.for_model(
        "mixtral",
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=8,
        num_experts_per_tok=2,
    )
    shape = shape_of(config, on_meta(AutoModelForCausalLM, config), dtype=torch.float32)
    one = 2 * 3 * 32 * 48  # both blocks: gate, up and down of one expert
    assert shape.resident - shape.active == 6 * one


def test_batches_are_those_of_the_budget() -> None:
    prompts = Prompts.of([[1] * 10 + [i] * n for i, n in enumerate((3, 5, 9, 2, 4, 7, 6, 8), start=2)], 60)
    assert prompts.shared == 10
    assert prompts.batches() == [(2, 9), (3, 7), (3, 4)], "the three batches with the fewest pads"
    assert token_passes(prompts.read()) == 2 * 9 + 3 * 7 + 3 * 4
    assert token_passes(prompts.begun(0.5)) == 5.0
    few = Prompts.of([[1] * 10 + [i] for i in range(3)], 60)
    assert few.shared == 0, "too few to share a beginning"


def test_the_machine_is_measured_in_its_number_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bures.models.costing._LONG", 0.01)
    found = probed(replace(SHAPE, width=64, inner=128), "cpu", torch.float32)
    assert 1e6 < found.flops < 1e14
    assert 1e6 < found.bandwidth < 1e13
    assert 1e-7 < found.call < 1.0
