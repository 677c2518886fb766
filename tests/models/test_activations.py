"""Collected activations against the model's own hidden states; what runs, what does not, and what is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from bures.errors import ConfigError, FitError
from bures.models.activations import collect
from bures.models.intervention import Intervention, count_hooks
from bures.models.loading import ChatModel, wrap
from bures.results.records import Scope
from helpers import reference, tiny
from helpers.counting import in_few_batches

SIXTEEN = (*tiny.PROMPTS, *(f"{prompt} Answer briefly." for prompt in tiny.PROMPTS))


@torch.inference_mode()
def hidden_states(model: ChatModel, prompt: str, *, position: int = -1) -> list[Tensor]:
    """The model's own residual stream at one token: before the first block, then after each; the last is normed."""
    ids = torch.tensor(model.encode([prompt]))
    states = model.hf(input_ids=ids, output_hidden_states=True).hidden_states
    return [state[0, position] for state in states]


@torch.inference_mode()
def final_norm(model: ChatModel, rows: Tensor) -> Tensor:
    norms = [m for name, m in model.decoder.named_children() if "norm" in name]
    assert len(norms) == 1
    return norms[0](rows)


@pytest.mark.parametrize("position", [-1, -2])
def test_rows_are_the_models_own_hidden_states(any_model: ChatModel, position: int) -> None:
    rows = collect(any_model, tiny.PROMPTS, position=position)
    assert sorted(rows) == [0, 1, 2]
    for i, prompt in enumerate(tiny.PROMPTS):
        states = hidden_states(any_model, prompt, position=position)
        for block in (0, 1):
            torch.testing.assert_close(rows[block][i], states[block + 1], rtol=1e-4, atol=1e-6)
            away = (rows[block][i] - states[block]).norm() / states[block].norm()
            assert float(away) > 0.05  # off by one would show
        torch.testing.assert_close(final_norm(any_model, rows[2][i]), states[3], rtol=1e-4, atol=1e-5)


def test_a_prompt_alone_and_unpadded_gives_the_hidden_states_exactly(any_model: ChatModel) -> None:
    rows = collect(any_model, [tiny.PROMPTS[2]])
    states = hidden_states(any_model, tiny.PROMPTS[2])
    for block in (0, 1):
        torch.testing.assert_close(rows[block][0], states[block + 1], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(final_norm(any_model, rows[2][0]), states[3], rtol=1e-6, atol=1e-7)


def test_batches_do_not_change_the_rows(any_model: ChatModel) -> None:
    together = collect(any_model, SIXTEEN, token_budget=1 << 20)
    alone = collect(any_model, SIXTEEN, token_budget=1)
    for block in (0, 1, 2):
        torch.testing.assert_close(together[block], alone[block], rtol=1e-4, atol=1e-6)
        assert together[block].shape == (16, any_model.d_model)
        assert together[block].dtype == torch.float32
        assert together[block].device.type == "cpu"
    assert len({tuple(row.tolist()) for row in alone[2]}) == 16  # a mix-up of rows would show


def test_batches_are_what_they_are_said_to_be(llama: ChatModel) -> None:
    shapes: list[tuple[int, ...]] = []
    handle = llama.blocks[0].register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    done: list[int] = []
    llama = in_few_batches(llama)
    try:
        collect(llama, SIXTEEN, blocks=[0], token_budget=1 << 20, advance=done.append)
        collect(llama, SIXTEEN, blocks=[0], token_budget=1, advance=done.append)
    finally:
        handle.remove()
    assert [shape[0] for shape in shapes] == [16] + [1] * 16
    assert done == [16] + [1] * 16


def test_only_the_wanted_blocks_come_back_each_once(llama: ChatModel) -> None:
    every = collect(llama, tiny.PROMPTS)
    some = collect(llama, iter(tiny.PROMPTS), blocks=[1, 0, 1])
    assert sorted(some) == [0, 1]
    assert torch.equal(some[1], every[1])
    assert torch.equal(some[0], every[0])


def test_the_pass_ends_after_the_last_wanted_block_and_before_the_head(llama: ChatModel) -> None:
    ran: Counter[str] = Counter()
    parts: dict[str, Any] = {"0": llama.blocks[0], "1": llama.blocks[1], "2": llama.blocks[2], "head": llama.hf.lm_head}
    handles = [m.register_forward_pre_hook(lambda *_, name=name: ran.update([name])) for name, m in parts.items()]
    try:
        collect(llama, tiny.PROMPTS[:2], blocks=[1, 0], token_budget=1)
        assert ran == {"0": 2, "1": 2}
        collect(llama, tiny.PROMPTS[:2], blocks=[2], token_budget=1)
        assert ran == {"0": 4, "1": 4, "2": 2}
        with torch.inference_mode():
            llama.hf(input_ids=torch.tensor([[1, 2]]))
        assert ran["head"] == 1  # the count could have shown it
    finally:
        for handle in handles:
            handle.remove()


def test_a_system_prompt_is_part_of_the_conversation(llama: ChatModel) -> None:
    plain = collect(llama, ["2 + 2?"], blocks=[1])[1]
    told = collect(llama, ["2 + 2?"], blocks=[1], system="Be brief.")[1]
    ids = torch.tensor(llama.encode(["2 + 2?"], system="Be brief."))
    with torch.inference_mode():
        state = llama.hf(input_ids=ids, output_hidden_states=True).hidden_states[2][0, -1]
    torch.testing.assert_close(told[0], state, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(plain, told, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("scope", ["all", "last", "prompt"])
def test_an_intervention_around_it_is_seen(any_model: ChatModel, scope: Scope) -> None:
    map_ = reference.low_rank(any_model.d_model)
    plain = collect(any_model, tiny.PROMPTS)
    with Intervention({1: map_}, tokens=scope).applied(any_model):
        moved = collect(any_model, tiny.PROMPTS)
    torch.testing.assert_close(moved[0], plain[0])
    torch.testing.assert_close(moved[1], reference.dense(map_)(plain[1]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(moved[2], plain[2], atol=1e-2)


def test_nan_activations_are_refused_and_the_first_bad_block_is_named() -> None:
    model = wrap(tiny.network("llama"), tiny.tokenizer(), "broken")
    layer: Any = model.blocks[1]
    with torch.no_grad():
        layer.mlp.down_proj.weight.fill_(float("nan"))
    assert torch.isfinite(collect(model, tiny.PROMPTS, blocks=[0])[0]).all()
    for blocks in (None, [1], [0, 1, 2]):
        with pytest.raises(FitError, match="after block 1 contain NaN or infinity for 8 of 8 prompts") as caught:
            collect(model, tiny.PROMPTS, blocks=blocks)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("block", [3, -1])
def test_an_unknown_block_is_refused(llama: ChatModel, block: int) -> None:
    with pytest.raises(ConfigError, match=f"block {block} does not exist in tiny-llama; expected 0 to 2"):
        collect(llama, ["2 + 2?"], blocks=[0, block])


@pytest.mark.parametrize("position", [0, 1, -1000])
def test_a_position_that_is_not_in_every_prompt_is_refused(llama: ChatModel, position: int) -> None:
    shortest = min(map(len, llama.encode(tiny.PROMPTS)))
    with pytest.raises(ConfigError, match=f"position {position} .*expected -{shortest} to -1"):
        collect(llama, tiny.PROMPTS, position=position)
    assert collect(llama, tiny.PROMPTS, blocks=[0], position=-shortest)[0].shape == (8, llama.d_model)


def test_no_blocks_are_refused(llama: ChatModel) -> None:
    with pytest.raises(ConfigError, match="nothing to collect"):
        collect(llama, tiny.PROMPTS, blocks=[])


def test_no_prompts_are_refused(llama: ChatModel) -> None:
    with pytest.raises(ConfigError, match="nothing to collect"):
        collect(llama, [])


def test_nothing_is_left_behind(llama: ChatModel) -> None:
    hooks = count_hooks(llama)
    collect(llama, tiny.PROMPTS, blocks=[0])
    assert count_hooks(llama) == hooks
    inside: list[int] = []

    def fail(_: Tensor) -> Tensor:
        inside.append(count_hooks(llama))
        raise ZeroDivisionError

    with reference.replaced(llama.blocks[1], fail), pytest.raises(ZeroDivisionError):
        collect(llama, tiny.PROMPTS)
    assert inside == [hooks + 4]  # three readers, and what ends the pass behind the last one
    assert count_hooks(llama) == hooks
