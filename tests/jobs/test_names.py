"""What results call a model: what was asked for, with the adapter that was merged into it, or what the user says."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from bures.jobs.audit import audit
from bures.jobs.config import AuditConfig
from bures.results.schema import AuditResult
from chaos import bad_inputs, kills


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    kills.write_inputs(folder)
    bad_inputs.write_adapter(folder)
    return folder


def audited(folder: Path, run: str, **more: Any) -> AuditResult:
    sides = [(side, split) for side in ("harmful", "harmless") for split in ("fit", "select", "test")]
    given = {f"{side}_{split}": str(folder / f"{side}_{split}.txt") for side, split in sides}
    options: dict[str, Any] = {"methods": ("mean-act",), "corpus": None, "max_new_tokens": 4, "n_select": 8, **given}
    return audit(AuditConfig.make(model=str(folder / "model"), **options, **more), folder / run)


def test_an_adapter_and_its_hash_stand_in_the_results(inputs: Path) -> None:
    plain = audited(inputs, "plain")
    assert plain.model["name"] == str(inputs / "model")
    assert "adapter" not in plain.model
    adapted = audited(inputs, "adapted", adapter=str(inputs / "adapter"))
    assert adapted.model["name"] == f"{inputs / 'model'} + adapter (adapter)"
    weights = (inputs / "adapter" / "adapter_model.safetensors").read_bytes()
    assert adapted.model["adapter"] == {"name": "adapter", "sha256": hashlib.sha256(weights).hexdigest()}


def test_a_name_is_what_tables_say_and_no_part_of_the_run(inputs: Path) -> None:
    named = audited(inputs, "named", name="v1.3 rc2")
    assert named.model["name"] == "v1.3 rc2"
    assert "name" not in named.options
    assert list(named.table["row"]) == [row.key for row in named.rows]
    again = audited(inputs, "named", name="another")  # the same run
    assert again.model["name"] == "v1.3 rc2"
