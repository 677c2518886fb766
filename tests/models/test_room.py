"""Batches shrink where memory runs out: the figures are those of an endless memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from bures.errors import ModelError
from bures.jobs.metrics import answer_costs, corpus_perplexity
from bures.models.activations import collect
from bures.models.batching import Batches
from bures.models.fitting import FitData, fit_in_sequence
from bures.models.generation import generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel, wrap
from bures.models.methods import FitOptions
from bures.models.past import past_in
from bures.models.prompt_stream import PromptStream
from bures.models.room import Room, is_out_of_memory
from bures.transport import fit_pca_ot
from helpers import tiny
from helpers.counting import in_few_batches
from helpers.intervened import the_map

ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
)


@contextmanager
def room_for(model: ChatModel, tokens: int, error: Exception = ERRORS[0]) -> Iterator[list[int]]:
    """Inside, a pass over more tokens than these fails in the last block; yields what was tried."""
    tried: list[int] = []

    def measure(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        cache = past_in(kwargs)
        ids = kwargs["input_ids"]
        tried.append(len(ids) * (ids.shape[1] + (cache.get_seq_length() if cache is not None else 0)))

    def fail(*_: Any) -> None:
        if tried[-1] > tokens:
            raise type(error)(*error.args)

    handles = [
        model.decoder.register_forward_pre_hook(measure, with_kwargs=True),
        model.blocks[-1].register_forward_hook(fail),
    ]
    try:
        yield tried
    finally:
        for handle in handles:
            handle.remove()


@pytest.fixture
def model() -> ChatModel:
    return in_few_batches(wrap(tiny.network("llama"), tiny.tokenizer(), "tiny-llama"))


def moved(model: ChatModel) -> Intervention:
    return Intervention({2: the_map(model)})


def activations(model: ChatModel) -> Any:
    return collect(model, tiny.PROMPTS)


def answers(model: ChatModel) -> Any:
    return generate_ids(model, tiny.PROMPTS, max_new_tokens=7)


def costs(model: ChatModel) -> Any:
    said = [[40 + i, 7, 9, 11][: 1 + i % 4] for i in range(len(tiny.PROMPTS))]
    found = answer_costs(model, tiny.PROMPTS, said, moved(model))
    return [*found.nll_each, *found.kl_each, found.perplexity.value, found.kl.value]


def perplexity(model: ChatModel) -> Any:
    return [corpus_perplexity(model, "All the rivers run into the sea. " * 40, moved(model), window=64).value]


def first_tokens(model: ChatModel) -> Any:
    stream = PromptStream(model, tiny.PROMPTS)
    found = [stream.first_token(moved(model)).log_probs]
    for block in range(3):
        stream.advance(block)
        assert stream.entry == block
        found += [stream.first_token(each).log_probs for each in (Intervention(), moved(model))]
    return found


def maps(model: ChatModel) -> Any:
    torch.manual_seed(0)
    target = {block: torch.randn(40, model.d_model) for block in range(3)}
    source = {block: torch.randn(8, model.d_model) for block in range(3)}
    fit = FitData(tiny.PROMPTS, source, target, FitOptions())
    found = fit_in_sequence(model, fit, [0, 1, 2], lambda a, b: fit_pca_ot(a, b, rank=2), tokens="all")
    rows = torch.randn(5, model.d_model)
    return [found[block](rows) for block in range(3)]


WORK: tuple[Callable[[ChatModel], Any], ...] = (activations, answers, costs, perplexity, first_tokens, maps)


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "python", "cpu", "cublas"])
def test_figures_are_those_of_an_endless_memory(
    work: Callable[[ChatModel], Any], error: Exception, model: ChatModel
) -> None:
    expected = work(model)
    assert model.room.notes() == ()
    with room_for(model, 200, error) as tried:
        found = work(model)
        again = len(tried)
        repeated = work(model)
    if work is answers:
        assert found == repeated == expected
    else:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(repeated, expected, rtol=1e-4, atol=1e-5)
    assert max(tried) > 200  # memory did run out
    assert max(tried[again:]) <= 200  # and it is not tried again
    (note,) = model.room.notes()
    assert note.startswith("Memory ran out (")
    assert not model.hf.training


@pytest.mark.parametrize("work", WORK)
def test_one_prompt_that_does_not_fit_is_one_line(work: Callable[[ChatModel], Any], model: ChatModel) -> None:
    with room_for(model, 20), pytest.raises(ModelError, match=r"a single prompt of \d+ tokens \(.*--dtype bfloat16"):
        work(model)


def test_what_was_computed_before_is_not_computed_again() -> None:
    sequences, done, room = [[3] * n for n in range(1, 41)], list[int](), Room(a_pass=1 << 20)
    todo, passes = Batches(sequences, pad_id=2, token_budget=400, room=room, work="tests"), 0
    for batch in todo:
        with todo.trying(batch):
            passes += 1
            if batch.ids.numel() > 400 // 2 and passes > 2:
                raise MemoryError
            done += batch.index
    assert sorted(done) == list(range(40))
    assert len(done) == 40
    assert room.budgets["tests"] <= 200
    later = Batches(sequences, pad_id=2, token_budget=400, room=room, work="tests")
    assert max(batch.ids.numel() for batch in later) <= 200
    other = Batches(sequences, pad_id=2, token_budget=400, room=room, work="others")
    assert max(batch.ids.numel() for batch in other) > 200


def test_other_errors_are_not_taken_for_it(model: ChatModel) -> None:
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with room_for(model, 10, RuntimeError("shapes cannot be multiplied")), pytest.raises(RuntimeError, match="shapes"):
        collect(model, tiny.PROMPTS)


def test_what_a_failed_pass_held_is_let_go() -> None:
    import weakref

    held: list[weakref.ref[torch.Tensor]] = []

    def run() -> None:
        tensor = torch.zeros(3)
        held.append(weakref.ref(tensor))
        raise MemoryError

    with Room().trying("tests", 2, 5) as attempt:
        run()
    assert attempt.failed
    assert held[0]() is None
