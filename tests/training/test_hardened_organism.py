"""The hardening adapter that ships: whole, where its options say, and with a card that states what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bures.errors import ModelError
from bures.models.checkpoints import HARDENED, adapter_folder, trained_on
from bures.training.harden.card import THREAT_MODEL
from bures.training.harden.config import HardenConfig
from bures.training.harden.plan import settled
from helpers import hardening

SHIPPED = adapter_folder(HARDENED)


def test_it_is_whole_and_in_the_blocks_of_its_plan() -> None:
    recipe = json.loads((SHIPPED / "recipe.json").read_text())
    weights = load_file(SHIPPED / "adapter_model.safetensors")
    blocks = {int(name.split(".layers.")[1].split(".")[0]) for name in weights}
    assert recipe["status"] == "complete"
    assert blocks == set(range(recipe["plan"]["first_block"], 30))
    assert len(weights) == len(blocks) * len(recipe["plan"]["targets"]) * 2
    assert all(torch.isfinite(tensor).all() and tensor.abs().max() > 0 for tensor in weights.values())
    assert (SHIPPED / "adapter_model.safetensors").stat().st_size < 8_000_000
    assert trained_on(SHIPPED) == "organism"


def test_its_options_are_the_defaults_but_for_a_further_set_that_it_was_kept_apart_from() -> None:
    recipe = json.loads((SHIPPED / "recipe.json").read_text())
    defaults = HardenConfig(model="organism", apart_from=("xstest_prompts.csv",)).options
    assert recipe["options"] == {name: defaults[name] for name in recipe["options"]}
    later = {"draws", "early_share", "hardest_of", "originals", "own_share", "text", "text_rows"}  # and off
    assert {name for name in defaults if name not in recipe["options"]} == later
    plan = settled(HardenConfig(model="organism"), hardening.model())
    assert (plan.early_share, plan.text_rows) == (0.0, 0)
    assert (plan.attacks.draws, plan.attacks.hardest_of, plan.attacks.originals) == (1, 1, 0)
    assert not defaults["own_share"]


def test_its_card_states_the_threat_model_and_the_figures_of_an_audit_and_no_path() -> None:
    assert sorted(path.name for path in SHIPPED.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "recipe.json",
    ]
    card = (SHIPPED / "README.md").read_text()
    assert THREAT_MODEL in card
    assert "bures audit organism --adapter organism-hardened" in card
    assert len(re.findall(r"^\| .* \| \d+\.\d \[", card, re.MULTILINE)) == 11
    for name in ("README.md", "adapter_config.json", "recipe.json"):
        text = (SHIPPED / name).read_text()
        assert not re.search(r'"[/~.\\]|[A-Za-z]:\\\\|/(home|root|tmp|usr|var|Users|work)\b', text)


def test_another_name_is_a_folder_and_one_line_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no adapter in .*hardened; expected adapter_config.json"):
        adapter_folder(tmp_path / "hardened")
