"""The defence table: attacks on the same prompts, the worst, the union, and two models held against each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bures.errors import ConfigError
from bures.jobs.defence import Attacked, Withstood, against, withstood
from bures.jobs.progress import Silent
from bures.models.loading import load_model
from bures.results.inference import mcnemar
from bures.training.lora import attach, save_adapter
from helpers import hardening, small_run


def model(name: str, *answered: str, judge: str = "bures") -> Withstood:
    """A model with attacks, each by the prompts that it gets answered; the last one is the null."""
    kinds = ["refitted"] * (len(answered) - 1) + ["random"]
    attacks = (
        Attacked(f"attack {i}", kind, tuple(c == "1" for c in each))  # pyright: ignore[reportArgumentType]
        for i, (each, kind) in enumerate(zip(answered, kinds, strict=True))
    )
    return Withstood(name, judge, tuple(attacks))


def test_worst_and_union_count_prompts_and_leave_the_null_out() -> None:
    found = model("one", "110000", "001110", "111111")
    assert found.worst.name == "attack 1"
    assert (found.worst.asr.value, found.worst.asr.n) == (0.5, 6)
    assert found.broken == (True, True, True, True, True, False)
    assert found.union.value == pytest.approx(5 / 6)


def test_two_models_are_held_against_each_other_prompt_by_prompt() -> None:
    one, two = model("one", "1000000", "0100000", "0000000"), model("two", "0101111", "0111111", "0000000")
    found = against(one, two)
    assert (found.only_first, found.only_second) == (1, 5)
    assert found.p == mcnemar(1, 5)
    with pytest.raises(ConfigError, match="other prompts or judges"):
        against(one, model("three", "10", "00"))
    with pytest.raises(ConfigError, match="other prompts or judges"):
        against(one, model("three", "0101111", "0111111", "0000000", judge="arditi"))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_every_attack_is_made_on_the_prompts_of_the_audit(tmp_path: Path) -> None:
    before = small_run.finished(tmp_path / "before")
    base = tmp_path / "before" / "model"
    adapted = attach(load_model(base), hardening.plan(load_model(base)))
    for p in adapted.parameters():
        if p.requires_grad:
            p.data.normal_(std=0.05)
    save_adapter(adapted, tmp_path / "adapter", base="model")
    after = small_run.finished(tmp_path / "after", adapter=tmp_path / "adapter")
    found = withstood(after, before, Silent(), name="after")
    rows = json.loads((after / "results.json").read_text())["rows"]
    kinds = [each.kind for each in found.attacks]
    assert kinds.count("none") == kinds.count("random") == 1
    assert kinds.count("refitted") == kinds.count("transferred") == len(rows) - 1
    assert 1 <= kinds.count("iterated") <= 8
    assert kinds.count("prefilled") == 3
    assert {len(each.answered) for each in found.attacks} == {len(small_run.THINGS)}
    for row, each in zip(rows, found.attacks, strict=False):
        assert each.name == row["key"]
        assert [mark == "0" for mark in row["refused"][found.judge]] == list(each.answered)
    with pytest.raises(ConfigError, match="of the model before"):
        withstood(before, before, Silent())
    shutil.rmtree(tmp_path / "after" / "run" / "maps")
    (tmp_path / "after" / "harmful_test.jsonl").write_text('{"prompt": "Another one"}\n')
    with pytest.raises(ConfigError, match="have changed"):
        withstood(after, before, Silent())
