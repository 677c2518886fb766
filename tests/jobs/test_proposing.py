"""What trials of a search begin with, and that the last ones try the best at less strength."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bures.jobs.config import SearchConfig
from bures.jobs.proposing import first_ones, sampler, suggested, weaker
from bures.jobs.study import optuna_module
from bures.models.fitting import FitData
from bures.models.methods import FitOptions
from bures.results.records import Candidate
from bures.results.schema import SearchTrial
from bures.results.stats import proportion
from helpers import scripted
from helpers.made_runs import a_run, sides

STRENGTHS = (0.5, 0.75, 1.0, 1.25)


def run_of(config: SearchConfig, unverified: str = "") -> Any:
    """A run whose activations are none: nothing is fitted."""
    model = scripted.model()
    model = replace(model, parts=replace(model.parts, unverified=unverified))
    both = sides(scripted.prompts(6, bad=True), scripted.prompts(6, bad=False))
    run: Any = replace(a_run(model, both), config=config)
    vars(run)["fit"] = FitData((), {}, {}, FitOptions())
    return run


def trial(
    number: int, strength: float, answered: int, kl: float, method: str = "rfa", rung: str = "long"
) -> SearchTrial:
    return SearchTrial.model_validate(
        {
            "number": number,
            "candidate": f"{method} {number}",
            "options": {"method": method, "layout": "one", "block": 3, "scope": "all", "strength": strength},
            "rung": rung,
            "refusal_log_odds": 0.0,
            "first_token_kl": kl,
            "asr": proportion(answered, 24).to_dict(),
            "kl": {"value": kl, "n": 24, "interval": [kl, kl]},
            "perplexity_ratio": 1.0,
            "refused": "0" * answered + "1" * (24 - answered),
        }
    )


@pytest.mark.parametrize("verified", [True, False])
def test_the_first_trials_try_every_method_and_the_published_ablation(verified: bool) -> None:
    config = SearchConfig.make(
        model="m", methods=("rfa", "pca-ot"), strengths=(0.4, 0.9, 1.5), scopes=("last", "all"), blocks=(0, 1, 2)
    )
    run = run_of(config, unverified="" if verified else "a norm")
    place = {"layout": "one", "block": 1, "strength": 0.9}  # of blocks 0 to 2
    expected = [("rfa", True, "last"), ("rfa", True, "all"), ("rfa", False, "last"), ("pca-ot", False, "last")]
    assert first_ones(run) == [
        {"method": method, "sites": sites, "scope": scope, **place}
        for method, sites, scope in expected[0 if verified else 2 :]
    ]


@pytest.mark.parametrize("options", [{}, {"sites": False}, {"sites": True}])
def test_a_trial_is_made_again_of_its_options_and_older_ones_know_no_sites(options: dict[str, bool]) -> None:
    pytest.importorskip("optuna")
    given = {"method": "rfa", "layout": "one", "block": 1, "scope": "all", "strength": 0.5, **options}
    candidate, made = suggested(run_of(SearchConfig.make(model="m", blocks=(1, 2))), given)
    assert candidate == Candidate("rfa", (2,), None, "all", sites=options.get("sites", False))
    assert made.strength == 0.5


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ([], None),
        ([trial(0, 1.0, 20, 0.3, rung="short")], None),  # none got to long answers
        ([trial(0, 1.0, 20, 0.3), trial(1, 1.25, 5, 0.1)], 0.75),
        ([trial(0, 1.0, 20, 0.3), trial(1, 0.75, 20, 0.2)], 0.5),  # it did as well, and less may do as well again
        ([trial(0, 1.0, 20, 0.3), trial(1, 0.75, 2, 0.2)], None),  # it did not: nothing weaker will
        ([trial(0, 1.0, 20, 0.3), trial(1, 0.75, 0, 0.2, rung="short")], None),
        ([trial(0, 0.5, 20, 0.3)], None),  # nothing weaker was asked for
        ([trial(0, 1.0, 20, 0.3), trial(1, 0.75, 20, 0.2, method="act")], 0.5),
    ],
)
def test_less_strength_is_tried_until_it_answers_fewer(done: list[SearchTrial], expected: float | None) -> None:
    found = weaker(STRENGTHS, done)
    assert (None if found is None else found["strength"]) == expected
    if found is not None:
        best = min((each for each in done if each.least > 0.5), key=lambda each: each.kl.value if each.kl else 0.0)
        assert {**found, "strength": 0} == {**best.options, "strength": 0}


def test_only_the_last_quarter_is_spent_on_less_strength() -> None:
    pytest.importorskip("optuna")
    config = SearchConfig.make(model="m", strengths=STRENGTHS)
    done = [trial(0, 1.0, 20, 0.3)]
    found = [sampler(config, cell, 8, done) for cell in range(8)]
    samplers = optuna_module().samplers
    assert [type(each) for each, _ in found] == [samplers.TPESampler] * 6 + [samplers.PartialFixedSampler] * 2
    assert [is_weaker for _, is_weaker in found] == [False] * 6 + [True] * 2
