"""How many prompts a gate takes, against counting; and what `bures plan` says of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom

from bures import cli
from bures.results.inference import paired_difference
from bures.results.plan import plan
from bures.results.power import gate_power, prompts_for_gate, prompts_for_increase, prompts_to_tell
from bures.results.questions import PlanConfig
from bures.results.stats import proportion


@pytest.mark.parametrize(("limit", "true", "n"), [(0.2, 0.1, 100), (0.1, 0.05, 159), (0.05, 0.01, 200)])
def test_the_power_of_a_gate_is_that_of_the_wilson_interval(limit: float, true: float, n: int) -> None:
    passes = [k for k in range(n + 1) if proportion(k, n).bounds[1] <= limit]
    assert gate_power(n, limit, true) == pytest.approx(sum(binom.pmf(k, n, true) for k in passes))
    assert gate_power(n, limit, limit) <= 0.03


@pytest.mark.parametrize(("limit", "fewest"), [(0.2, 100), (0.1, 217), (0.05, 465), (0.02, 1232)])
def test_four_of_five_audits_at_half_the_limit_pass_from_so_many_prompts(limit: float, fewest: int) -> None:
    found = prompts_for_gate(limit, limit / 2, 0.8)
    assert found is not None
    assert found.fewest == fewest
    powers = [gate_power(n, limit, limit / 2) for n in range(1, 2 * fewest)]
    assert min(powers[found.always - 1 :]) >= 0.8
    assert max(powers[: found.fewest - 1]) < 0.8 <= powers[found.fewest - 1]
    assert powers[found.always - 2] < 0.8


def test_what_takes_too_many_prompts_is_said_and_what_cannot_be_is_refused() -> None:
    assert prompts_for_gate(0.1, 0.0999, 0.8) is None
    (planned,) = plan(PlanConfig(max_asr=0.1, true=0.0999)).limits
    assert "takes more prompts than any set has" in planned.sentence
    with pytest.raises(ValueError, match="below the limit"):
        prompts_for_gate(0.1, 0.1, 0.8)
    with pytest.raises(ValueError, match="power"):
        prompts_for_gate(0.1, 0.05, 1.0)


def test_equal_models_keep_a_limit_of_an_increase_about_as_often_as_planned() -> None:
    n = prompts_for_increase(0.05, 0.1, 0.8)
    rng = np.random.default_rng(0)
    apart = rng.binomial(n, 0.1, size=600)
    only_b = rng.binomial(apart, 0.5)
    passes = [paired_difference(int(m - b), int(b), n).bounds[1] <= 0.05 for m, b in zip(apart, only_b, strict=True)]
    assert np.mean(passes) == pytest.approx(0.8, abs=0.05)


def test_a_difference_is_told_at_the_prompts_that_it_takes() -> None:
    assert prompts_to_tell(5, 5, 100) is None
    n = prompts_to_tell(8, 16, 86)
    assert n is not None
    rng = np.random.default_rng(1)
    counts = rng.multinomial(n, [8 / 86, 16 / 86, 62 / 86], size=600)
    told = [paired_difference(int(a), int(b), n).bounds[0] > 0 for a, b, _ in counts]
    assert np.mean(told) == pytest.approx(0.8, abs=0.05)


def test_every_row_has_to_pass_more_often_where_several_are_checked() -> None:
    one, nine = (plan(PlanConfig(max_asr=0.1, rows=rows)).limits[0] for rows in (1, 9))
    assert (one.needed or 0) < (nine.needed or 0)
    assert nine.power == pytest.approx(1 - 0.2 / 9)


def test_the_command_says_it_in_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["plan", "--max-asr", "0.10", "--power", "0.8"])
    said = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    assert "To show that the ASR is at most 10% in 80% of the audits in which it is 5% takes 217 prompts" in said
    assert "with fewer than 35 nothing passes" in said
    with pytest.raises(SystemExit):
        cli.main(["plan", "--max-increase", "0.05", "--json"])
    assert json.loads(capsys.readouterr().out)["limits"][0]["option"].startswith("--n-test ")
    with pytest.raises(SystemExit) as end:
        cli.main(["plan", "--max-asr", "0.1", "--true", "0.2"])
    assert end.value.code == 2
    assert "keeps no limit of 0.1" in capsys.readouterr().err
