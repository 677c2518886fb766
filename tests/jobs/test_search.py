"""The search: its rules on made-up trials, and a whole one on a tiny model, with a second worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bures.errors import ConfigError
from bures.jobs.config import SearchConfig
from bures.jobs.pareto import climbs, honest_asr, judge_trials
from bures.jobs.parting import Parting
from bures.jobs.search import join, search
from bures.results.run_folder import RunFolder
from bures.results.schema import SearchResult, SearchTrial
from bures.results.stats import Measurement, proportion
from helpers import small_run, tiny


def trial(number: int, answered: int, kl: float, rung: str = "long") -> SearchTrial:
    return SearchTrial(
        number=number,
        candidate=f"c{number}",
        options={},
        rung=rung,
        refusal_log_odds=0.0,
        first_token_kl=0.0,
        asr=proportion(answered, 40),
        perplexity_ratio=1.0,
        kl=Measurement(kl, 40),
    )


def test_the_front_and_the_smallest_kl_within_the_interval_of_the_best() -> None:
    trials = [trial(0, 40, 0.9), trial(1, 38, 0.2), trial(2, 38, 0.3), trial(3, 20, 0.01), trial(4, 39, 0.5)]
    again = trials[0].model_copy(update={"number": 9})
    front, recommended = judge_trials([again, *trials, trial(5, 40, 0.0, rung="short")])
    assert [t.number for t in front] == [3, 1, 4, 0]
    assert recommended is trials[1]  # 38 of 40 lies within the interval of 40 of 40, 20 of 40 does not
    assert judge_trials([trial(5, 40, 0.0, rung="short")]) == ([], None)


def marked(number: int, refused: str, kl: float) -> SearchTrial:
    answered = refused.count("0")
    changes = {"refused": refused, "asr": proportion(answered, len(refused)), "candidate": f"c{number}"}
    return trial(number, 0, kl).model_copy(update=changes)


def test_a_trial_is_good_enough_where_the_same_prompts_do_not_show_it_worse() -> None:
    best = marked(0, "0" * 30 + "1" * 10, 0.9)
    others = [marked(1, "0" * 26 + "1" * 14, 0.2), marked(2, "0" * 25 + "1" * 15, 0.1)]
    _, recommended = judge_trials([best, others[0]])
    assert recommended is best  # four prompts that only the best answers, none that only the other does
    _, recommended = judge_trials([best, marked(3, "0" * 27 + "1" * 13, 0.2)])
    assert recommended is not best


def test_what_is_recommended_is_not_flattered_by_the_prompts_that_chose_it() -> None:
    """At 2b04838 the recommended point was shown 0.06 above its true ASR at 32 prompts."""
    rng = np.random.default_rng(0)
    shown, honest = [], []
    for _ in range(120):
        marks = rng.uniform(size=(60, 32)) < 0.4  # every trial answers 60 %
        trials = [marked(i, "".join("01"[int(x)] for x in row), 0.1 + i / 1000) for i, row in enumerate(marks)]
        _, recommended = judge_trials(trials)
        found = honest_asr(trials)
        assert recommended is not None
        assert recommended.asr is not None
        assert found is not None
        shown.append(recommended.asr.value)
        honest.append(found.value)
    assert np.mean(shown) > 0.64
    assert np.mean(honest) == pytest.approx(0.6, abs=0.025)
    assert honest_asr([trial(0, 40, 0.9)]) is None


def test_a_trial_climbs_from_the_best_third_or_the_front() -> None:
    assert climbs((5.0, 5.0), [])
    others = [(float(i), 1.0) for i in range(9)]
    assert climbs((2.5, 1.0), others)  # third of ten
    assert not climbs((3.5, 1.0), others)
    assert climbs((99.0, 0.5), others)  # on the front by its second value
    assert not climbs((99.0, 1.0), others)


@pytest.fixture
def options(model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A search on a random model, which refuses nothing: its refusal tokens are made up."""
    small_run.pretend_refusals(monkeypatch)
    made: dict[str, object] = {"model": model_folder, "trials": 8, "short_tokens": 2, "long_tokens": 4}
    words = [f"{a} {b}" for a in tiny.PROMPTS for b in ("Now.", "Later.", "Never.", "Soon.")]
    for i, name in enumerate(("harmful_fit", "harmful_select", "harmless_fit", "harmless_select")):
        path = tmp_path / f"{name}.txt"
        path.write_text("\n".join(words[8 * i : 8 * i + 8]))
        made[name] = str(path)
    return made | {"ranks": (1, 2), "n_fit": 8, "n_select": 8}


def test_a_search_finishes_its_trials_and_is_not_run_again(options: dict[str, object], tmp_path: Path) -> None:
    config = SearchConfig.make(**options)
    found = search(config, tmp_path / "run")
    assert len(found.trials) == 8
    assert {t.rung for t in found.trials} <= {"first token", "short", "long", None}
    long = [t for t in found.trials if t.rung == "long"]
    assert long
    assert all(t.asr is not None and t.kl is not None and t.kl.value >= 0 for t in long)
    assert found.recommended in found.front
    held = RunFolder(tmp_path / "run").load(SearchResult)
    assert held == found
    assert (tmp_path / "run" / "search.db").exists()
    assert join(f"sqlite:///{tmp_path / 'run' / 'search.db'}", "bures") == 8  # nothing is left to do
    assert search(config, tmp_path / "run") == found


def test_a_worker_of_another_model_is_refused(
    options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(SearchConfig.make(**options), tmp_path / "run")
    monkeypatch.setattr("bures.models.loading.ChatModel.describe", lambda _: {"fingerprint": "another"})
    with pytest.raises(ConfigError, match="is not the model"):
        join(f"sqlite:///{tmp_path / 'run' / 'search.db'}", "bures")


def test_a_model_that_refuses_nothing_is_told(
    options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bures.jobs.run.find_parting", lambda *_, **__: Parting(()))
    with pytest.raises(ConfigError, match="no refusal to search for"):
        search(SearchConfig.make(**options), tmp_path / "run")
