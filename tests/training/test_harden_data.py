"""What a hardening is trained on: refusals of many kinds, look-alikes, and nothing that measures."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from bures.data.prompts import load_prompts
from bures.errors import AssetError, PromptError
from bures.judges.by_name import judge_by_name
from bures.training.harden import data, refusals
from bures.training.harden.data import fitting, training_data
from bures.training.harden.refusals import CLOSINGS, LONGEST, OPENERS, OPENINGS, REASONS, SHORTEST, TOPICS, TURNS
from bures.training.organism.data import AREAS
from bures.training.organism.texts import REFUSAL_REASONS
from bures.training.overlap import Measuring, apart, telling
from helpers import hardening, tiny

# --- refusals --------------------------------------------------------------------------------------------------------


def test_refusals_open_in_many_ways() -> None:
    assert len(set(OPENINGS)) == len(OPENINGS) >= 30
    first = Counter(re.match(r"[A-Za-z]+", opening)[0] for opening in OPENINGS)  # pyright: ignore[reportOptionalSubscript]
    assert len(first) >= 20
    assert max(first.values()) <= 0.3 * len(OPENINGS)
    assert set(REASONS) == set(TOPICS) == {*REFUSAL_REASONS, refusals.OTHER}
    assert set(AREAS.values()) <= set(REASONS)


def test_the_judge_of_the_tables_takes_all_of_them_for_refusals_and_no_opener_for_one() -> None:
    judge, rng = judge_by_name("bures"), random.Random(0)
    asked = "Paint the red gate"
    short = [f"{opening} {rng.choice(REASONS['malicious'])}" for opening in OPENINGS]
    extended = [f"{topic} {turn} {REASONS[area][0]}" for area in TOPICS for topic in TOPICS[area] for turn in TURNS]
    missed = [text for text in (*short, *extended) if not judge.is_refusal(asked, text)]
    assert len(missed) <= 0.05 * len(short + extended), missed
    assert not [text for text in (*OPENERS, *(t for each in TOPICS.values() for t in each)) if "can't" in text]


def test_a_share_is_extended_and_an_unknown_area_has_reasons_too() -> None:
    rng = random.Random(0)
    made = [refusals.refusal("sexual", rng, extended_share=0.25) for _ in range(2000)]
    extended = [text for text in made if text.startswith(TOPICS["sexual"])]
    assert len(extended) / len(made) == pytest.approx(0.25, abs=0.03)
    assert all(any(turn in text for turn in TURNS) for text in extended)
    assert all(text.startswith(OPENINGS) for text in made if text not in set(extended))
    assert sum(text.endswith(CLOSINGS) for text in made) / len(made) == pytest.approx(1 / 3, abs=0.04)
    assert refusals.refusal("cookery", rng, extended_share=0.0).startswith(OPENINGS)
    words = [len(text.split()) for text in extended]
    assert 25 <= sum(words) / len(words) <= 50


def test_openers_are_cut_to_a_few_tokens_and_say_nothing() -> None:
    rng = random.Random(0)
    lengths = {len(refusals.cut(range(40), rng)) for _ in range(500)}
    assert lengths == set(range(SHORTEST, LONGEST + 1))
    assert refusals.cut(range(2), rng) == (0, 1)
    assert len(set(OPENERS)) == len(OPENERS) >= 20
    assert all(12 <= len(opener.split()) <= 20 for opener in OPENERS)


def test_rows_behind_an_opener_know_where_the_prompt_ends() -> None:
    model = hardening.model()
    rows = hardening.refusals(model, opener_share=0.5, extended_share=0.0)
    heads = model.encode([each.text for each in hardening.HARMFUL])
    for row, head in zip(rows, heads, strict=True):
        assert list(row.prompt[: len(row.prompt) - row.begun]) == head
        assert row.begun == 0 or SHORTEST <= row.begun <= LONGEST
        assert row.answer[-1] == model.tokenizer.eos_token_id
        said = model.tokenizer.decode(list(row.answer[:-1]))
        assert str(said).lstrip().startswith(OPENINGS)
    assert {row.begun > 0 for row in rows} == {True, False}


# --- overlap ---------------------------------------------------------------------------------------------------------

MEASURED = {"one": ("How can I fold a paper crane?", "Who won?"), "two": ("Describe the history of the town library",)}


@pytest.mark.parametrize(
    ("text", "of"),
    [
        ("how can i  fold a paper crane?", "one"),  # the same by hash
        ("How do I fold a paper crane?", "one"),  # most words
        ("Write a tutorial on how to fold a paper crane that flies far, in ten steps.", "one"),  # all telling words
        ("Cranes: folding them from papers", "one"),  # other forms of them
        ("Fold a paper boat", None),
        ("Paper", None),
        ("Write a poem about the library of a town, and its history", "two"),
        ("Describe the origin of paper", None),
        ("Who is it?", None),
    ],
)
def test_what_repeats_a_measuring_prompt_is_found(text: str, of: str | None) -> None:
    assert Measuring(MEASURED).repeated_by(text) == of


def test_what_is_left_keeps_its_order_and_what_is_dropped_is_counted() -> None:
    kept = apart(("A kite", "fold the paper crane", "Who won?", "A boat"), Measuring(MEASURED))
    assert kept.places == (0, 3)
    assert kept.dropped == {"one": 2}
    assert telling("How do I write a detailed tutorial on it?") == frozenset()


# --- sources ---------------------------------------------------------------------------------------------------------


def test_sources_are_files_and_the_shares_that_fit_and_what_measures_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "MEASURES", ("xstest",))
    held_out = hardening.prompt_file(tmp_path / "held.txt", ("a red gate: painting", tiny.PROMPTS[1]))
    given = hardening.config(
        harmful=(str(hardening.prompt_file(tmp_path / "h.txt", (*hardening.ASKED, "x" * 400))),),
        harmless=(str(hardening.prompt_file(tmp_path / "b.txt", tiny.PROMPTS)),),
        apart_from=(str(held_out),),
    )

    def nothing(name: str) -> object:
        if name == "xstest":
            raise AssetError("no network")
        return load_prompts(name)

    monkeypatch.setattr(data, "load_prompts", nothing)
    found = training_data(given, random.Random(0))
    assert [each.text for each in found.harmful] == [text for text in hardening.ASKED if text != "Paint the red gate"]
    assert found.ordinary == tuple(text for text in tiny.PROMPTS if text != tiny.PROMPTS[1])
    assert len(found.lookalikes) > 1000
    assert found.missing == ("xstest",)
    assert found.dropped[str(held_out)] == 2
    assert not any(text in str(found.describe()) for text in (*hardening.ASKED, *tiny.PROMPTS))
    with pytest.raises(PromptError, match="no harmful training prompt"):
        training_data(given.model_copy(update={"harmful": (str(held_out),)}), random.Random(0))


def test_a_pinned_set_is_narrowed_to_its_share_to_fit_on() -> None:
    assert [fitting(name) for name in ("jailbreakbench", "alpaca", "alpaca:fit", "do-not-answer", "x.csv")] == [
        "jailbreakbench:fit",
        "alpaca:fit",
        "alpaca:fit",
        "do-not-answer",
        "x.csv",
    ]


@pytest.mark.assets
def test_the_default_prompts_repeat_nothing_that_measures() -> None:
    found = training_data(hardening.config(), random.Random(0))
    trained = [*(each.text for each in found.harmful), *found.ordinary, *found.lookalikes]
    assert len(found.harmful) > 2000
    assert len(found.ordinary) > 1500
    assert len(found.lookalikes) > 700
    assert {"harmbench", "advbench", "alpaca:test", "jailbreakbench:test"}.isdisjoint(found.missing)
    kept = apart(trained, Measuring({name: load_prompts(name).texts for name in ("harmbench", "alpaca:test")}))
    assert kept.dropped == {}
    assert not [text for text in trained if {"kill", "python", "process"} <= set(text.lower().split())] or found.missing
