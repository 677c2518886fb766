"""The best of every choice tried again: who is, by what is chosen then, and that a killed run goes on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bures.jobs.trying_again
from bures.data.prompts import PromptSet
from bures.errors import FitError
from bures.jobs.config import AuditConfig, SearchConfig
from bures.jobs.pareto import FINALISTS, finalists, judge_trials
from bures.jobs.run import Run
from bures.jobs.scan_config import ScanConfig
from bures.jobs.search import search
from bures.jobs.selection import choose, settle
from bures.jobs.splits import Splits, load_splits
from bures.jobs.trying_again import BEST, contenders, try_again
from bures.models.loading import ChatModel
from bures.results.marks import answered
from bures.results.records import Candidate, Trial
from bures.results.schema import AuditResult, SearchResult, SearchTrial
from bures.results.stats import Measurement, proportion
from helpers import small_run, tiny
from helpers.made_runs import a_run, sides


def trial(block: int, refused: str, ratio: float = 1.0, kl: float = 0.1, again: str = "") -> Trial:
    share = proportion(sum(answered(refused)), len(refused))
    return Trial(
        Candidate("rfa", (block,), None, "all"), share, ratio, Measurement(kl, 9), refused=refused, again=again
    )


# Who is tried again, and by what is chosen ------------------------------------------------------------------------


def test_the_best_three_are_tried_again_but_none_that_is_shown_to_do_worse() -> None:
    level = [trial(i, "0" * (12 - i) + "1" * i) for i in range(5)]
    assert contenders(level, 1.1) == level[:BEST]
    assert contenders(level[::-1], 1.1) == level[:BEST]
    worse = [level[0], trial(5, "0" * 4 + "1" * 8), trial(6, "1" * 12)]  # 8 prompts that only the best answers
    assert contenders(worse, 1.1) == worse[:1]
    costly = replace(level[0], perplexity_ratio=1.2)
    assert contenders([costly, *level[1:]], 1.1) == level[1:4]
    assert contenders([costly], 1.1) == []
    assert contenders([], 1.1) == []


def test_the_choice_goes_by_all_prompts_of_those_that_were_tried_again() -> None:
    first = [trial(0, "0001", again="1111"), trial(1, "0011", again="0000"), trial(2, "0111")]
    assert choose(first, 1.1) is first[0]
    assert settle(first, 1.1) is first[1]
    assert settle([t for t in first if not t.again], 1.1) is first[2]
    # a third that was not tried again is not chosen, although its share of fewer prompts is larger by then
    assert settle([trial(0, "0001", again="1111"), trial(1, "0011", again="1111"), trial(2, "0011")], 1.1) == first[0]
    tied = [trial(0, "0001", kl=0.2, again="0011"), trial(1, "0011", again="0001")]
    assert settle(tied, 1.1) is tied[1]
    assert settle([trial(0, "01", again="-0")], 1.1) is not None
    assert trial(0, "01", again="-0").least_in_all == 0.5  # an unfinished answer is no success
    assert settle([replace(t, perplexity_ratio=2.0) for t in first], 1.1) == replace(first[0], perplexity_ratio=2.0)


def test_trying_again_gives_away_less() -> None:
    """Twelve trials, of which the best of 24 prompts is chosen: 0.024 of the true ASR against 0.015."""
    rng, given = np.random.default_rng(0), np.zeros(2)
    for _ in range(400):
        rates = rng.beta(6, 3, 12)
        marks = [["01"[int(x)] for x in row] for row in rng.uniform(size=(12, 40)) >= rates[:, None]]
        tried = [trial(i, "".join(row[:24])) for i, row in enumerate(marks)]
        best = {t.candidate for t in contenders(tried, 1.1)}
        again = [replace(t, again="".join(marks[i][24:])) if t.candidate in best else t for i, t in enumerate(tried)]
        chosen = [choose(tried, 1.1), settle(again, 1.1)]
        given += [rates.max() - rates[t.candidate.blocks[0]] for t in chosen if t is not None]
    once, twice = given / 400
    assert 0.015 < twice < 0.8 * once


# The further prompts ----------------------------------------------------------------------------------------------


def written(folder: Path, name: str, n: int) -> str:
    path = folder / f"{name}.txt"
    path.write_text("\n".join(f"{name} number {i}" for i in range(n)))
    return str(path)


def options(folder: Path, select: int) -> dict[str, Any]:
    counts = {"harmful_fit": 20, "harmful_select": select, "harmful_test": 20, "harmless_fit": 20}
    counts |= {"harmless_select": 20, "harmless_test": 20}
    return {"model": "organism", "n_fit": 8, "n_select": 10, "ranks": (1,)} | {
        name: written(folder, name, n) for name, n in counts.items()
    }


@pytest.mark.parametrize(("source", "left"), [(40, 16), (14, 4), (10, None), (6, None)])
def test_further_prompts_are_others_of_the_source_to_choose_on(tmp_path: Path, source: int, left: int | None) -> None:
    config = AuditConfig.make(**options(tmp_path, source))
    found = load_splits(config)
    assert (None if found.again is None else len(found.again)) == left
    assert len(found.select.harmful) == min(10, source)
    if found.again is not None:
        assert all(prompt.startswith("harmful_select") for prompt in map(str, found.again))
        assert not set(found.again.hashes) & set(found.select.harmful.hashes)
        assert found.describe()["harmful_again"]["n"] == left
        assert load_splits(config).again == found.again
    switched_off = load_splits(AuditConfig.make(**options(tmp_path, source), n_again=0))
    assert switched_off.again is None
    assert switched_off.select == found.select


def test_a_scan_chooses_nothing_and_takes_no_further_prompts(tmp_path: Path) -> None:
    given = {name: value for name, value in options(tmp_path, 40).items() if not name.endswith("test")}
    assert load_splits(ScanConfig.make(**given)).again is None
    assert load_splits(SearchConfig.make(**given)).again is not None


# On a model -------------------------------------------------------------------------------------------------------

ANSWERS = ("0011", "1001", "0001", "1111")


def made_run(llama: ChatModel, n_again: int = 4) -> Run[AuditConfig, AuditResult]:
    """An audit behind its trials: three contenders on one block, one that is far worse, and a single pair."""
    made = a_run(llama, sides(tiny.PROMPTS[:4], tiny.PROMPTS[3:7]), methods=("rfa",), select_tokens=3, n_again=4)
    others = tuple(f"{prompt} Once more." for prompt in tiny.PROMPTS[:n_again])
    further = PromptSet("made up", "a test", None, others) if others else None
    found = Splits(made.splits.fit, made.splits.select, made.splits.test, again=further)
    tried = [trial(i % 3, 2 * marks, kl=0.1 + i) for i, marks in enumerate(ANSWERS)]
    tried[3] = replace(tried[3], candidate=Candidate("rfa", (0, 1, 2), None, "all"), perplexity_ratio=1.05)
    made.result.trials = tried
    return replace(made, splits=found)


def test_contenders_answer_the_further_prompts_and_a_killed_run_goes_on(
    llama: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, asked = made_run(llama), list[Sequence[Any]]()
    judged = bures.jobs.trying_again.judged

    def listening(run: Run[Any, Any], harmful: Sequence[Any], *rest: Any) -> Any:
        asked.append(list(harmful))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return judged(run, harmful, *rest)

    try_again(whole)
    marks = [t.again for t in whole.result.trials]
    assert [len(each) for each in marks] == [4, 4, 4, 0]  # the row on all blocks has nothing to choose from
    assert [replace(t, again="") for t in whole.result.trials] == made_run(llama).result.trials
    killed = made_run(llama)
    monkeypatch.setattr(bures.jobs.trying_again, "judged", listening)
    with pytest.raises(KeyboardInterrupt):
        try_again(killed)
    assert [len(t.again) for t in killed.result.trials].count(4) == 2
    try_again(killed)
    assert killed.result.trials == whole.result.trials
    assert len(asked) == 4  # the one that was killed twice, no other
    assert killed.splits.again is not None
    assert all(prompts == list(killed.splits.again) for prompts in asked)
    assert killed.result.notes == []


def test_a_map_that_overflows_on_a_further_prompt_is_not_chosen(
    llama: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, build = made_run(llama), bures.jobs.trying_again.build

    def refuse(model: ChatModel, candidate: Candidate, fit: Any) -> Any:
        if candidate.blocks == (2,):
            raise FitError("overflow")
        return build(model, candidate, fit)

    monkeypatch.setattr(bures.jobs.trying_again, "build", refuse)
    try_again(made)
    assert choose(made.result.trials[:3], 1.1) == made.result.trials[2]
    settled = settle(made.result.trials[:3], 1.1)
    assert settled is not None
    assert settled.candidate.blocks != (2,)


@pytest.mark.parametrize(("n_again", "said"), [(4, None), (2, "has 2 of the 4"), (0, "has none of the 4")])
def test_too_few_further_prompts_are_said_and_used(llama: ChatModel, n_again: int, said: str | None) -> None:
    made = made_run(llama, n_again)
    try_again(made)
    assert [len(t.again) for t in made.result.trials[:3]] == [n_again] * 3
    assert len(made.result.notes) == (said is not None)
    assert all(said in note for note in made.result.notes if said is not None)


# A search ---------------------------------------------------------------------------------------------------------


def point(number: int, refused: str, kl: float, again: str = "") -> SearchTrial:
    return SearchTrial(
        number=number,
        candidate=f"c{number}",
        options={},
        rung="long",
        refusal_log_odds=0.0,
        first_token_kl=0.0,
        asr=proportion(refused.count("0"), len(refused)),
        perplexity_ratio=1.0,
        kl=Measurement(kl, 9),
        refused=refused,
        again=again,
    )


def test_a_search_tries_again_what_it_might_recommend() -> None:
    front = [point(i, "0" * (20 + i) + "1" * (10 - i), 0.1 * i) for i in range(11)]
    level = front[7:]  # three prompts fewer than the best are not shown to be fewer, four are
    assert finalists(front) == level
    assert finalists([front[0], front[10]]) == [front[10]]
    assert finalists([]) == []
    many = [point(i, "0" * 30, 0.5).model_copy(update={"kl": Measurement(0.5, 9)}) for i in range(12)]
    assert len(finalists(many)) == FINALISTS
    assert judge_trials(front)[1] is level[0]
    tried = [t.model_copy(update={"again": "1" * 6 if t is level[0] else "0" * 6}) for t in level]
    found, recommended = judge_trials([*front[:7], *tried])
    assert [t.number for t in found] == list(range(11))
    assert recommended is tried[1]
    assert finalists([*front[:7], *tried]) != []


def test_a_finished_search_keeps_what_was_tried_again(
    model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run.pretend_refusals(monkeypatch)
    words = [f"{a} {b}" for a in tiny.PROMPTS for b in ("Now.", "Later.", "Never.", "Soon.")]
    random.Random(0).shuffle(words)
    given: dict[str, Any] = {"model": model_folder, "trials": 8, "short_tokens": 2, "long_tokens": 4}
    for i, name in enumerate(("harmful_fit", "harmful_select", "harmless_fit", "harmless_select")):
        (tmp_path / f"{name}.txt").write_text("\n".join(words[8 * i : 8 * i + 8]))
        given[name] = str(tmp_path / f"{name}.txt")
    config = SearchConfig.make(**given, ranks=(1, 2), n_fit=6, n_select=5, n_again=3)
    monkeypatch.setattr("bures.jobs.search.finalists", lambda trials: [t for t in trials if t.rung == "long"][:2])
    made, killed = bures.jobs.trying_again.judged, list[int]()

    def failing(*args: Any) -> Any:
        killed.append(1)
        if len(killed) == 2:
            raise KeyboardInterrupt
        return made(*args)

    monkeypatch.setattr(bures.jobs.trying_again, "judged", failing)
    with pytest.raises(KeyboardInterrupt):
        search(config, tmp_path / "run")
    found = search(config, tmp_path / "run")
    assert len(killed) == 3  # the first was kept by the study
    tried = [t for t in found.trials if t.again]
    assert [len(t.again) for t in tried] == [3, 3]
    assert found.prompts["harmful_again"]["n"] == 3
    assert isinstance(found, SearchResult)
    assert search(config, tmp_path / "run") == found
