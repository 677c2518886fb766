"""What trials of a search begin with, and that the last ones try the best at less strength."""

from __future__ import annotations

from typing import Any

import pytest

from bures.jobs.config import SearchConfig
from bures.jobs.proposing import first_ones, sampler, weaker
from bures.jobs.study import optuna_module
from bures.results.schema import SearchTrial
from bures.results.stats import proportion

STRENGTHS = (0.5, 0.75, 1.0, 1.25)


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


def test_the_first_trials_try_every_method_in_the_middle_at_full_strength() -> None:
    config = SearchConfig.make(model="m", methods=("rfa", "pca-ot"), strengths=(0.4, 0.9, 1.5), scopes=("last", "all"))
    begun = first_ones(config, 9)
    assert [each["method"] for each in begun] == ["rfa", "pca-ot"]
    assert all(each | {"method": ""} == begun[0] | {"method": ""} for each in begun)
    assert begun[0] == {"method": "rfa", "layout": "one", "block": 4, "scope": "last", "strength": 0.9}
    assert first_ones(config, 1)[0]["block"] == 0


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
    kinds: list[Any] = [type(sampler(config, cell, 8, done)) for cell in range(8)]
    samplers = optuna_module().samplers
    assert kinds == [samplers.TPESampler] * 6 + [samplers.PartialFixedSampler] * 2
