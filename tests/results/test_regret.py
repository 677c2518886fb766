"""What a choice gives away, against an integral, against slow counting, and as `bures plan` says it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.stats import beta

from bures import cli
from bures.results.plan import plan
from bures.results.questions import PlanConfig
from bures.results.regret import BEST, MOST_PROMPTS, prompts_for_regret, regrets


def test_the_regret_of_one_prompt_and_two_candidates_is_that_of_the_integral() -> None:
    both = 0.7**2  # both marks hang on the prompt alone

    def given(q: float, p: float) -> float:
        """p is the better one: it is not chosen where only the other answers, and in half of the ties."""
        only_p = both * (p - q) + (1 - both) * p * (1 - q)
        only_q = (1 - both) * q * (1 - p)
        return float(2 * beta.pdf(p, 6, 3) * beta.pdf(q, 6, 3) * (p - q) * (only_q + (1 - only_p - only_q) / 2))

    expected = dblquad(given, 0, 1, 0, lambda p: p)[0]
    assert regrets(1, 0, 2, runs=60_000)[0] == pytest.approx(expected, abs=0.0012)


def test_two_candidates_tried_again_are_chosen_by_all_their_prompts() -> None:
    again, whole = regrets(8, 8, 2, runs=30_000), regrets(16, 0, 2, runs=30_000, seed=1)
    assert again[7] == pytest.approx(whole[15], abs=0.001)
    assert again[7] < 0.8 * whole[7]


@pytest.mark.parametrize("n_again", [0, 16])
def test_the_regret_among_twelve_is_what_counting_one_by_one_gives(n_again: int) -> None:
    rng, found, n = np.random.default_rng(3), list[float](), 24
    for _ in range(3000):
        rates = rng.beta(6, 3, 12)
        hard, alike = rng.uniform(size=n + n_again), rng.uniform(size=(12, n + n_again)) < 0.7
        marks = np.where(alike, hard, rng.uniform(size=alike.shape)) < rates[:, None]
        best = sorted(range(12), key=lambda i: -marks[i, :n].sum() - 0.01 * rng.uniform())
        among = best[:BEST] if n_again else best[:1]
        found.append(rates.max() - rates[max(among, key=lambda i: marks[i].sum())])
    assert regrets(n, n_again, 12)[n - 1] == pytest.approx(np.mean(found), abs=0.0023)


def test_more_prompts_and_a_second_look_give_away_less() -> None:
    once, twice = regrets(64, 0, 12, runs=2000), regrets(64, 16, 12, runs=2000)
    assert (twice < once).all()
    assert once[63] < once[31] < once[15]
    assert regrets(8, 16, 1).max() == 0.0  # one candidate: nothing to give away
    with pytest.raises(ValueError, match="Expected prompts"):
        regrets(0, 0, 12)
    with pytest.raises(ValueError, match="between 0 and 1"):
        prompts_for_regret(0.0, 0, 12)


def test_the_plan_is_the_fewest_prompts_at_which_the_regret_is_accepted() -> None:
    found = plan(PlanConfig(max_regret=0.015, n_again=16)).choice
    assert found is not None
    assert found.needed is not None
    every = regrets(MOST_PROMPTS, 16, 12)
    assert every[found.needed - 1] <= 0.015 < every[: found.needed - 1].min()
    assert found.alone is not None
    assert found.needed < found.alone
    assert f"--n-select {found.needed} --n-again 16" in found.sentence
    alone = plan(PlanConfig(max_regret=0.015, n_again=0)).choice
    assert alone is not None
    assert alone.needed == found.alone
    assert f"takes about {alone.needed} selection prompts (--n-select {alone.needed} --n-again 0)" in alone.sentence
    none = plan(PlanConfig(max_regret=0.0001)).choice
    assert none is not None
    assert f"more than {MOST_PROMPTS} selection prompts" in none.sentence
    assert plan(PlanConfig(max_asr=0.1)).choice is None


def test_the_command_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["plan", "--max-regret", "0.01", "--candidates", "4", "--json"])
    assert not end.value.code
    said = json.loads(capsys.readouterr().out)
    assert said["limits"] == []
    assert said["choice"]["candidates"] == 4
    assert "at most 1 point of the true ASR" in said["choice"]["sentence"]
