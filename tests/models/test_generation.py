"""Greedy answers against a loop of argmax without cache, padding or batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bures.errors import ConfigError
from bures.models.generation import decode, generate, generate_ids
from bures.models.intervention import Intervention, count_hooks
from bures.models.loading import ChatModel, wrap
from helpers import reference, tiny

NEW = 8


@torch.inference_mode()
def by_hand(model: ChatModel, prompt: str, *, new: int = NEW, ends: tuple[int, ...] = ()) -> list[int]:
    """One prompt, one token at a time, everything computed anew each time."""
    ids, answer = model.encode([prompt])[0], []
    while len(answer) < new:
        answer.append(int(model.hf(input_ids=torch.tensor([ids + answer]), use_cache=False).logits[0, -1].argmax()))
        if answer[-1] in ends:
            break
    return answer


def fresh(family: str = "llama") -> ChatModel:
    return wrap(tiny.network(family), tiny.tokenizer(), "fresh")


def test_answers_are_the_argmax_loop(any_model: ChatModel) -> None:
    expected = [by_hand(any_model, prompt, ends=any_model.eos_ids) for prompt in tiny.PROMPTS]
    assert generate_ids(any_model, tiny.PROMPTS, max_new_tokens=NEW) == expected
    assert len({tuple(answer) for answer in expected}) > 1


def test_answers_do_not_depend_on_the_batches(any_model: ChatModel) -> None:
    done: list[int] = []
    alone = generate_ids(any_model, tiny.PROMPTS, max_new_tokens=NEW, token_budget=1, advance=done.append)
    together = generate_ids(any_model, tiny.PROMPTS, max_new_tokens=NEW, token_budget=1 << 20, advance=done.append)
    assert done == [1] * 8 + [8]
    assert alone == together
    assert generate_ids(any_model, tiny.PROMPTS[::-1], max_new_tokens=NEW) == alone[::-1]


def test_answers_under_an_intervention_are_those_of_the_edited_model(any_model: ChatModel) -> None:
    map_ = reference.low_rank(any_model.d_model, seed=5)
    with reference.replaced(any_model.blocks[1], reference.dense(map_)):
        expected = [by_hand(any_model, prompt, ends=any_model.eos_ids) for prompt in tiny.PROMPTS[:4]]
    with Intervention({1: map_}).applied(any_model):
        assert generate_ids(any_model, tiny.PROMPTS[:4], max_new_tokens=NEW) == expected
    assert generate_ids(any_model, tiny.PROMPTS[:4], max_new_tokens=NEW) != expected


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_answers_end_with_the_ending_token_and_pads_never_leak(family: str) -> None:
    model = fresh(family)
    free = [by_hand(model, prompt) for prompt in tiny.PROMPTS]
    ends = (free[0][2], free[1][4])
    config: Any = model.hf.generation_config
    config.eos_token_id = list(ends)
    assert set(ends) <= set(model.eos_ids)
    answers = generate_ids(model, tiny.PROMPTS, max_new_tokens=NEW)
    assert answers == [by_hand(model, prompt, ends=model.eos_ids) for prompt in tiny.PROMPTS]
    assert any(len(answer) < NEW for answer in answers)
    assert len({len(answer) for answer in answers}) > 1  # some rows waited for others, on pads
    assert not any(token in model.eos_ids for answer in answers for token in answer[:-1])
    assert not any(model.pad_id in answer for answer in answers)


def test_the_tokenizers_own_ending_token_ends_an_answer() -> None:
    model = fresh()
    config: Any = model.hf.generation_config
    config.eos_token_id = None
    assert model.eos_ids == (1, 3, 4)  # the template's next turns begin with one token each
    always = torch.zeros(tiny.VOCABULARY)
    always[1] = 1e6
    with reference.replaced(model.hf.lm_head, lambda logits: logits + always):
        assert generate_ids(model, tiny.PROMPTS, max_new_tokens=NEW) == [[1]] * 8
        assert generate(model, tiny.PROMPTS[:2], max_new_tokens=NEW) == ["", ""]


SAMPLING: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.3,
    "top_p": 0.5,
    "top_k": 2,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 1,
    "num_beams": 3,
    "max_length": 20,
    "max_new_tokens": 2,
    "use_cache": False,
}


@pytest.mark.parametrize("together", [True, False])
def test_the_checkpoints_sampling_defaults_are_ignored(together: bool) -> None:
    model = fresh()
    expected = generate_ids(model, tiny.PROMPTS, max_new_tokens=12)
    assert any(len(set(answer)) < len(answer) for answer in expected)  # a repetition penalty would show
    for chosen in [SAMPLING] if together else [{key: value} for key, value in SAMPLING.items()]:
        config: Any = fresh().hf.generation_config
        for key, value in chosen.items():
            setattr(config, key, value)
        model.hf.generation_config = config
        assert generate_ids(model, tiny.PROMPTS, max_new_tokens=12) == expected, chosen


LEAKS = (
    "min_new_tokens",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "forced_eos_token_id",
    "encoder_repetition_penalty",
    "guidance_scale",
    "sequence_bias",
    "stop_strings",
    "return_dict_in_generate",
)


@pytest.mark.parametrize("key", LEAKS)
def test_the_checkpoints_other_defaults_are_ignored_too(key: str) -> None:
    model = fresh()
    model.hf.generation_config.eos_token_id = generate_ids(model, tiny.PROMPTS, max_new_tokens=3)[0][2]
    expected = generate_ids(model, tiny.PROMPTS, max_new_tokens=NEW)
    assert len(expected[0]) == 3
    first = expected[0][0]
    value: Any = {
        "min_new_tokens": NEW,
        "suppress_tokens": [first],
        "begin_suppress_tokens": [first],
        "bad_words_ids": [[first]],
        "forced_eos_token_id": 7,
        "encoder_repetition_penalty": 3.0,
        "guidance_scale": 3.0,
        "sequence_bias": [[[first], -50.0]],
        "stop_strings": ["a"],
        "return_dict_in_generate": True,
    }[key]
    setattr(model.hf.generation_config, key, value)
    assert generate_ids(model, tiny.PROMPTS, max_new_tokens=NEW) == expected


def test_generation_leaves_the_models_own_configuration_alone() -> None:
    model = fresh()
    config: Any = model.hf.generation_config
    config.temperature, config.do_sample = 0.3, True
    before, hooks = config.to_dict(), count_hooks(model)
    generate_ids(model, tiny.PROMPTS[:2], max_new_tokens=2)
    assert model.hf.generation_config is config
    assert config.to_dict() == before
    assert count_hooks(model) == hooks


def test_text_is_the_decoded_tokens_without_special_ones(llama: ChatModel) -> None:
    ids = generate_ids(llama, tiny.PROMPTS[:3], max_new_tokens=NEW, system="Be brief.")
    texts = generate(llama, iter(tiny.PROMPTS[:3]), max_new_tokens=NEW, system="Be brief.")
    assert texts == decode(llama, ids)
    assert ids != generate_ids(llama, tiny.PROMPTS[:3], max_new_tokens=NEW)
    spelled = llama.tokenizer("Good day", add_special_tokens=False)["input_ids"]
    assert decode(llama, [[*spelled, 1], [2, *spelled], []]) == ["Good day", "Good day", ""]


@pytest.mark.parametrize("new", [0, -3])
def test_no_tokens_asked_for_is_refused(llama: ChatModel, new: int) -> None:
    with pytest.raises(ConfigError, match=f"max_new_tokens is {new}; expected at least 1"):
        generate_ids(llama, tiny.PROMPTS, max_new_tokens=new)


def test_no_prompts_are_refused(llama: ChatModel) -> None:
    with pytest.raises(ConfigError, match="nothing to generate"):
        generate_ids(llama, [])
