"""Answers of trials are as long as it takes to see the model's own refusals."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bures.jobs.config import SearchConfig
from bures.jobs.lateness import about_late, comes_late, trial_tokens
from bures.jobs.run import Run
from bures.jobs.selection import ask_original, attempt, try_all
from bures.results.records import Candidate, ScanScore
from bures.results.schema import AuditResult
from helpers import scripted
from helpers.made_runs import a_run, sides

OPENING = ("Many", "things", "are", "of", "interest,", "so")
LATE = scripted.Script(refusal=(*OPENING, *scripted.REFUSAL))
N = 12


def run_of(script: scripted.Script, **options: Any) -> Run[Any, AuditResult]:
    split = sides(scripted.prompts(N, bad=True), scripted.prompts(N, bad=False))
    given = {"select_tokens": 5, "max_new_tokens": 14, "judge": "arditi", "methods": ("rfa",), "n_select": N, **options}
    return a_run(scripted.model(script), split, **given)


@pytest.mark.parametrize(
    ("script", "options", "expected"),
    [
        (LATE, {}, 14),
        (LATE, {"select_tokens": 12}, 12),  # all of the refusal is seen
        (LATE, {"max_new_tokens": 5}, 5),  # nothing longer is asked for, so nothing is known
        (scripted.Script(), {}, 5),
    ],
)
def test_trials_are_longer_where_refusals_come_late(
    script: scripted.Script, options: dict[str, int], expected: int
) -> None:
    run = run_of(script, **options)
    assert trial_tokens(run) == run.result.trial_tokens == expected
    said = [note for note in run.result.notes if "tokens instead" in note]
    assert len(said) == (expected > run.config.select_tokens)
    assert all("only behind the first 5 tokens" in note and "have 14 tokens" in note for note in said)


def test_it_is_found_out_once_and_said_again_where_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(LATE)
    trial_tokens(run)
    run.result.notes.clear()
    monkeypatch.setattr(Run, "answer", None)
    assert trial_tokens(run) == 14
    assert len(run.result.notes) == 1


def test_a_map_that_does_nothing_is_not_taken_for_one_that_takes_the_refusal_away() -> None:
    """With five tokens every answer of the model reads as one, and the trial of a map that does nothing has 100 %."""
    run = run_of(LATE)
    idle = Candidate("rfa", (2,), None, "generated")  # the last block at answer tokens: behind the fork
    short = attempt(run, idle, ask_original(run, 5))
    assert short.asr is not None
    assert short.asr.value == 1.0
    try_all(run, [ScanScore(idle, 0.0, 0.0)])
    found = next(trial for trial in run.result.trials if trial.candidate == idle)
    assert found.asr is not None
    assert found.asr.value == 0.0


THOUGHT = ("<think>", *scripted.THOUGHT, "</think>")


@pytest.mark.parametrize(("refusal", "late"), [(scripted.REFUSAL, False), (LATE.refusal, True)])
def test_what_is_thought_first_does_not_make_a_refusal_late(refusal: tuple[str, ...], late: bool) -> None:
    script = scripted.Script(beginning=THOUGHT, refusal=refusal)
    split = sides(scripted.prompts(N, bad=True), scripted.prompts(N, bad=False))
    thinking = scripted.model(script).asked(thinking="on", thinking_tokens=20)
    run = a_run(thinking, split, judge="arditi", methods=("rfa",), n_select=N)
    assert comes_late(run, len(scripted.REFUSAL), 14) is late


@pytest.mark.parametrize(("script", "said"), [(LATE, 1), (scripted.Script(), 0)])
def test_a_search_says_where_its_middle_rung_takes_refusals_for_answers(script: scripted.Script, said: int) -> None:
    config = SearchConfig.make(model="scripted", short_tokens=5, long_tokens=14)
    run: Any = run_of(script)
    found = about_late(dataclasses.replace(run, config=config))
    assert len(found) == said
    assert all("--short-tokens 14" in note and "first 5 tokens" in note for note in found)
