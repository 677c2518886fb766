"""Iterated ablation takes each direction from the block that does best on the selection split, within the budget."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bures.errors import FitError, NumericsError
from bures.jobs.defence import planning
from bures.jobs.defence.planning import Choice
from bures.jobs.defence.targets import Target, load_target, read_audit
from bures.jobs.progress import Silent
from bures.judges.base import marks
from bures.models.generation import read
from bures.models.intervention import Intervention
from bures.models.subspaces import Directions
from bures.results.records import Candidate, Trial
from bures.results.stats import Measurement
from helpers import small_run


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    folder = tmp_path_factory.mktemp("audited")
    small_run.finished(folder, "--methods", "rfa", "--scopes", "all")
    return load_target(read_audit("model", folder / "run"), Silent())


def chosen(target: Target, patch: pytest.MonkeyPatch, measured: list[tuple[float, float] | None]) -> int:
    """The block that is chosen where the ablation at each has this ASR and this perplexity ratio, or overflows."""

    def answered(run: Any, candidate: Candidate, intervention: Intervention, original: Any) -> Trial:
        held = measured[candidate.blocks[0]]
        if held is None:
            raise NumericsError("too large")
        assert len(intervention.sites) == 3 * len(target.model.blocks)
        return Trial(candidate, Measurement(held[0], 10), held[1], Measurement(held[1] - 1.0, 9))

    patch.setattr(planning, "answered", answered)
    unit = torch.eye(target.model.d_model, dtype=torch.float64)[0]
    return Choice(target).best([Directions((unit,), (block,)) for block in range(len(measured))]).blocks[0]


def test_the_best_within_the_budget_is_taken_and_ties_go_to_the_smaller_kl(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = target.run.config.max_perplexity_ratio
    assert chosen(target, monkeypatch, [(0.9, limit + 0.1), (0.6, limit), (0.6, limit - 0.01)]) == 2
    assert chosen(target, monkeypatch, [(0.9, limit), (0.6, limit), (0.6, limit - 0.01)]) == 0


def test_where_none_is_within_the_budget_the_cheapest_is_and_what_overflows_is_passed_over(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = target.run.config.max_perplexity_ratio
    assert chosen(target, monkeypatch, [(0.9, limit + 2.0), (0.2, limit + 1.0), None]) == 1
    with pytest.raises(FitError, match="overflow"):
        chosen(target, monkeypatch, [None])


def test_on_a_model_the_choice_is_that_of_trying_every_direction(target: Target) -> None:
    run, fit = target.run, target.run.splits.fit
    found = Directions().further(target.model, list(fit.harmful), list(fit.harmless), range(len(target.model.blocks)))
    assert len(found) > 1
    best = Choice(target).best(found)
    harmless = list(run.splits.select.harmless)
    own = run.answer(harmless, run.config.select_tokens)
    before = run.costs(harmless, own).perplexity.value
    ratios: dict[int, float] = {}
    shares: dict[int, float] = {}
    for each in found:
        move = each.everywhere(len(target.model.blocks))
        ratios[each.blocks[0]] = run.costs(harmless, own, move).perplexity.value / before
        answers = run.answer(list(run.splits.select.harmful), run.config.select_tokens, move)
        shares[each.blocks[0]] = answered_share(run, answers)
    within = [block for block, ratio in ratios.items() if ratio <= run.config.max_perplexity_ratio]
    if within:
        assert shares[best.blocks[0]] == max(shares[block] for block in within)
        assert best.blocks[0] in within
    else:
        assert best.blocks[0] == min(ratios, key=lambda block: ratios[block])


def answered_share(run: Any, answers: list[list[int]]) -> float:
    """Share that the run's judge takes for answers, each read by itself."""
    prompts, said = list(run.splits.select.harmful), [read(run.model, ids) for ids in answers]
    found = marks(
        run.judge, prompts, [s.text for s in said], harmful=True, coherent=False, finished=[s.finished for s in said]
    )[run.judge.name]
    return sum(mark is False for mark in found) / len(found)
