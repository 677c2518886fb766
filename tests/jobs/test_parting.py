"""Where refusals and answers part, on made-up answers and on a model whose every answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bures.data.prompts import PromptSet
from bures.jobs.parting import Parting, parting
from bures.jobs.scanner import Scanner, find_parting
from bures.jobs.splits import Sides
from bures.judges.base import Judge
from bures.judges.phrases import ARDITI
from bures.models.activations import collect
from bures.models.fitting import FitData
from bures.models.generation import generate, generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.methods import FitOptions
from bures.models.prompt_stream import PromptStream, first_token
from bures.models.reentry import Entries
from bures.results.records import ScanScore
from helpers import scripted
from helpers.scripted import Script

BAD, GOOD = scripted.prompts(20, bad=True), scripted.prompts(20, bad=False)


def found_in(model: ChatModel, judge: Judge = ARDITI) -> Parting:
    return find_parting(model, BAD, GOOD, judge, lambda prompts, n: generate_ids(model, prompts, max_new_tokens=n))


@pytest.mark.parametrize(
    ("refused", "answered", "expected"),
    [
        ([[1, 2], [1, 3]], [[5, 2], [6, 2]], Parting((1,), (), 2)),
        ([[1, 2], [4, 3]], [[5, 2], [1, 2], [6, 2]], Parting((1, 4), (), 2)),
        ([[9, 1, 2], [9, 1, 3]], [[9, 5], [9, 6]], Parting((1,), (9,), 2)),
        ([[9, 8, 1], [9, 8, 2]], [[9, 8, 5], [9, 8, 6]], Parting((1, 2), (9, 8), 2)),
        ([[9, 1]] * 40, [[9, 5]] * 39 + [[7, 1]], Parting((1,), (9,), 40)),  # one of forty begins otherwise
        ([[9, 1]] * 4, [[9, 5]] * 3 + [[7, 1]], Parting((9,), (), 4)),  # one of four does: they part at once
        ([[1, 2], [1, 3]], [], Parting((1,), (), 2)),
        ([], [[1, 2]], Parting((), (), 0)),
        ([[1, 2], [1, 2]], [[1, 2], [1, 2]], Parting((), (), 2)),
        ([[1, 2]], [[1, 2, 3]], Parting((), (), 1)),
        ([[9, 1, 2]], [[9]], Parting((1,), (9,), 1)),
    ],
)
def test_refusals_and_answers_part_where_they_part(
    refused: Sequence[list[int]], answered: Sequence[list[int]], expected: Parting
) -> None:
    assert parting(refused, answered) == expected


def test_no_token_and_no_refusal_are_two_sentences() -> None:
    assert "refused none of 20 harmful" in Parting((), (), 0).missing(20, "arditi")
    none = Parting((), (), 20).missing(20, "arditi")
    assert "No refusal token was found" in none
    assert "refused 20 of 20 harmful" in none


@pytest.mark.parametrize("beginning", [(), ("Well,",), ("Oh", "well,")])
def test_the_token_that_decides_is_scored_behind_the_common_beginning(beginning: tuple[str, ...]) -> None:
    script = Script(beginning=beginning)
    model = scripted.model(script)
    found = found_in(model)
    assert [script.words[token] for token in found.begin] == list(beginning)
    assert [script.words[token] for token in found.tokens] == [scripted.REFUSAL[0]]
    assert found.refusals == len(BAD)
    for refuses in (True, False):
        prompts = scripted.prompts(6, bad=refuses, seed=7)
        odds = PromptStream(model, prompts, begin=found.begin).first_token(Intervention()).log_odds(found.tokens)
        assert ((odds > 5) if refuses else (odds < -5)).all()
        if beginning:  # where the answers begin nothing is decided
            assert (first_token(model, prompts, Intervention()).log_odds(found.tokens) < -50).all()


def test_a_model_that_refuses_nothing_and_one_whose_refusals_look_like_answers_are_told_apart() -> None:
    model = scripted.model(Script(refusal=("Fine:", "do", "so.")))
    assert found_in(model) == Parting((), (), 0)

    class Prompts:
        name = "prompts"

        def is_refusal(self, prompt: str, answer: str) -> bool:
            return "zarn" in prompt

    same = scripted.model(Script(refusal=scripted.ANSWER))
    assert found_in(same, Prompts()) == Parting((), (), len(BAD))


def test_unfinished_answers_are_no_refusals_and_no_answers() -> None:
    thinks = Script(opens="<think>", beginning=("<think>", *scripted.THOUGHT, "</think>"))
    model = scripted.model(thinks).asked(thinking="on", thinking_tokens=4)
    assert found_in(model) == Parting((), (), 0)


def test_the_scanner_scores_behind_the_beginning() -> None:
    model = scripted.model(Script(beginning=("Well,",)))
    found = found_in(model)
    fit = FitData(tuple(BAD), collect(model, BAD), collect(model, GOOD), FitOptions(ridge=0.1))
    harmful, harmless = scripted.prompts(6, bad=True, seed=7), scripted.prompts(6, bad=False, seed=7)
    select = Sides(
        *(PromptSet(name, "made up", None, tuple(texts)) for name, texts in (("a", harmful), ("b", harmless)))
    )
    scanner = Scanner(model, fit, select, found)
    assert min(scanner.harmful) > 5
    assert max(scanner.harmless) < -5
    (score,) = scanner.block(0, methods=["mean-act"], ranks=[1], scopes=["last"])
    plain = replace(model, entries=Entries.nowhere(len(model.blocks)))
    whole = Scanner(plain, fit, select, found)
    (again,) = whole.block(0, methods=["mean-act"], ranks=[1], scopes=["last"])
    assert isinstance(score, ScanScore)
    assert isinstance(again, ScanScore)
    assert score.each == pytest.approx(again.each, abs=1e-3)
    assert generate(model, harmful[:1]) == [f"Well, {scripted.REFUSED}"]
