"""Hardening where it is not known what the blocks add: nothing at three sites of a block, and a word about why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bures.errors import ConfigError
from bures.jobs.progress import Silent
from bures.models.loading import wrap
from bures.training.harden.config import HardenConfig
from bures.training.harden.job import RECIPE, harden
from bures.training.harden.plan import settled
from helpers import families, hardening, tiny

UNKNOWN = "elementwise residual weights"


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bures.training.harden.data.MEASURES", ())


def options(folder: Path, family: str) -> dict[str, Any]:
    families.network(family).save_pretrained(folder / "model")
    tiny.tokenizer().save_pretrained(folder / "model")
    return hardening.config(steps=3, refit_every=1, maps=8).model_dump(exclude_unset=True) | {
        "model": str(folder / "model"),
        "harmful": (str(hardening.prompt_file(folder / "harmful.txt", hardening.ASKED)),),
        "harmless": (str(hardening.prompt_file(folder / "harmless.txt", tiny.PROMPTS)),),
        "attack_share": 1.0,
        "own_share": 1.0,
    }


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(("family", "has_sites"), [(UNKNOWN, False), ("norms behind", True)])
def test_attacks_at_three_sites_are_left_out_where_they_cannot_be(family: str, has_sites: bool, tmp_path: Path) -> None:
    heard = Heard()
    out = harden(HardenConfig.make(**options(tmp_path, family)), tmp_path / "out", progress=heard)
    placements = json.loads((out / RECIPE).read_text())["plan"]["attacks"]["placements"]
    assert placements == ["one", "two", "all", *["sites"] * has_sites]
    said = [line for line in heard.lines if "three sites" in line]
    start = "attacks at three sites of every block, and answers under them, are left out for this architecture: what"
    assert [line[: len(start)] for line in said] == [start] * (not has_sites)


def test_a_setting_that_has_no_other_attacks_is_refused_and_the_control_is_not() -> None:
    model = wrap(families.network(UNKNOWN), tiny.tokenizer(), UNKNOWN)
    with pytest.raises(ConfigError, match=r"three sites of every block, .*\(what block 0 .*take --setting"):
        settled(hardening.config(setting="fail-closed"), model)
    assert settled(hardening.config(setting="control"), model).attacks.share == 0.0
