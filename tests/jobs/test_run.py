"""What a run supplies to every pass: the token budget and the system prompt, whatever stage asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from bures.data.prompts import Corpus
from bures.jobs.run import Run
from bures.jobs.scan import scan_and_locate
from bures.jobs.selection import try_all
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.room import Room
from helpers import tiny
from helpers.counting import in_few_batches
from helpers.made_runs import a_run, sides

HARMFUL, HARMLESS = tiny.PROMPTS[:5], tiny.PROMPTS[3:]
BUDGET = 150


@contextmanager
def passes(model: ChatModel) -> Iterator[list[tuple[int, int]]]:
    """(rows, padded tokens a row) of every forward pass, what is cached counted in."""
    seen: list[tuple[int, int]] = []

    def look(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs["input_ids"]
        mask = kwargs.get("attention_mask")
        width = mask.shape[-1] if isinstance(mask, torch.Tensor) else ids.shape[1]
        seen.append((ids.shape[0], width))

    handle = model.decoder.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def a_budgeted_run(model: ChatModel, budget: int, **options: Any) -> Run[Any, Any]:
    given: dict[str, Any] = {"methods": ("rfa", "mean-act", "pca-ot"), "ranks": (1,), "scopes": ("all",)}
    run = a_run(model, sides(HARMFUL, HARMLESS), token_budget=budget, select_tokens=3, **(given | options))
    run.result.refusal_tokens = [70, 71]
    return run


def stages(run: Run[Any, Any]) -> None:
    """Every stage of an audit that passes prompts through the model."""
    try_all(run, scan_and_locate(run, induce=True))
    harmless = run.splits.tested.harmless
    answers = run.answer(harmless, 3)
    run.costs(harmless, answers, Intervention({0: run.fit and next(iter(maps_of(run)))}))
    run.perplexity(Corpus("made up", "a test", "0" * 64, "x" * 2000), 600, Intervention())
    run.result.refusal_tokens = []
    run.find_parting()


def maps_of(run: Run[Any, Any]) -> list[Any]:
    from bures.models.methods import fit_block

    return list(fit_block("mean-act", run.fit.source[0], run.fit.target[0], (), run.fit.options).values())


def test_the_token_budget_reaches_every_pass(llama: ChatModel) -> None:
    with passes(llama) as seen:
        stages(a_budgeted_run(llama, BUDGET))
    assert len(seen) > 50
    assert max(rows for rows, _ in seen) > 1
    assert [(rows, width) for rows, width in seen if rows > 1 and rows * width > BUDGET] == []


def test_the_check_of_the_budget_can_fail(llama: ChatModel) -> None:
    llama = in_few_batches(llama)
    with passes(llama) as seen:
        stages(a_budgeted_run(llama, 4096))
    assert max(rows * width for rows, width in seen) > 3 * BUDGET


def test_the_budget_changes_no_figure(llama: ChatModel) -> None:
    small, large = (a_budgeted_run(llama, budget) for budget in (BUDGET, 4096))
    for run in (small, large):
        try_all(run, scan_and_locate(run))
    assert [trial.candidate for trial in small.result.trials] == [trial.candidate for trial in large.result.trials]
    for one, other in zip(small.result.trials, large.result.trials, strict=True):
        assert one.asr == other.asr
        assert one.kl is not None
        assert other.kl is not None
        assert one.kl.value == pytest.approx(other.kl.value, rel=1e-3, abs=1e-6)


def test_the_system_prompt_reaches_every_pass(llama: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    encode = ChatModel.encode

    def listening(self: ChatModel, prompts: Any, *, system: str | None = None) -> list[list[int]]:
        asked.append(system)
        return encode(self, prompts, system=system)

    monkeypatch.setattr(ChatModel, "encode", listening)
    stages(a_budgeted_run(llama, 4096, system="Be brief."))
    assert set(asked) == {"Be brief."}


def test_the_results_say_with_which_batches_they_were_computed(llama: ChatModel) -> None:
    model = replace(llama, room=Room())
    run = a_budgeted_run(model, 4096)
    run.note("Something else.")
    run.save()
    assert run.result.notes == ["Something else."]
    for rows in (8, 4):
        with model.room.trying("answers", rows, 100) as attempt:
            raise MemoryError
        assert attempt.failed
        run.save()
        assert run.result.notes == [
            "Something else.",
            f"Memory ran out (answers): batches of at most {rows * 50} tokens were computed from there on.",
        ]
