"""What a run folder says is done is on the disk: the power goes after some fsync, and the run is continued."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from bures import durable
from bures.jobs.audit import audit
from bures.jobs.config import AuditConfig
from bures.results.run_folder import load_result
from bures.results.schema import RunResult
from chaos import kills
from chaos.forgetful_disk import Disk, PowerCut

CUTS = 6


def test_the_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    root, spare = tmp_path / "root", tmp_path / "spare"
    root.mkdir()
    spare.mkdir()
    (root / "old").write_text("before")
    disk = Disk(root, spare)
    with disk.running():
        (root / "careless").write_text("whole")
        (root / "part").write_text("after")
        (root / "part").replace(root / "old")
        durable.write(root / "careful", "whole")
        (root / "old").write_text("after")
    disk.left(tmp_path / "left")
    found = {path.name: path.read_text() for path in (tmp_path / "left").iterdir()}
    assert found == {
        "careless": "",
        "careful": "whole",
        "old": "",
    }  # only the names were synced


def test_a_name_is_forgotten_that_its_folder_did_not_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, spare = tmp_path / "root", tmp_path / "spare"
    root.mkdir()
    spare.mkdir()
    monkeypatch.setattr(durable, "sync_folder", lambda _: None)
    disk = Disk(root, spare)
    with disk.running():
        durable.write(root / "a", "whole")
    disk.left(tmp_path / "left")
    assert list((tmp_path / "left").iterdir()) == []


def options(folder: Path) -> AuditConfig:
    given: dict[str, Any] = {f"{side}_{split}": str(folder / f"{side}_{split}.txt") for side, split in _SETS}
    more: dict[str, Any] = {"corpus": None, "max_new_tokens": 8, "select_tokens": 8, "n_select": 8, "dtype": "float32"}
    return AuditConfig.make(model=str(folder / "model"), methods=("rfa", "mean-act"), ranks=(1,), **given, **more)


_SETS = [(side, split) for side in ("harmful", "harmless") for split in ("fit", "select", "test")]


def test_an_audit_goes_on_after_a_power_cut(tmp_path: Path) -> None:
    kills.write_inputs(tmp_path)
    config, whole = options(tmp_path), tmp_path / "whole"
    whole.mkdir()
    (tmp_path / "spare-whole").mkdir()
    disk = Disk(whole, tmp_path / "spare-whole")
    with disk.running():
        audit(config, whole)
    assert disk.syncs > 40
    disk.left(tmp_path / "afterwards")
    assert kills.state(tmp_path / "afterwards") == kills.state(whole)  # all of it is on the disk at the end

    rng = random.Random(0)
    for cut in sorted(rng.sample(range(1, disk.syncs), CUTS)):
        broken, spare = tmp_path / "broken", tmp_path / f"spare-{cut}"
        broken.mkdir()
        spare.mkdir()
        broken_disk = Disk(broken, spare, cut)
        with pytest.raises(PowerCut), broken_disk.running():
            audit(config, broken)
        shutil.move(broken, tmp_path / f"forgotten-{cut}")
        _left(broken_disk, tmp_path / f"forgotten-{cut}", broken)
        for file in broken.rglob("*.json"):
            json.loads(file.read_text())  # nothing that has its name is half written
        if (broken / "results.json").exists():
            load_result(broken, RunResult)
        audit(config, broken)
        assert kills.differences(kills.state(whole), kills.state(broken)) == [], cut
        shutil.rmtree(broken)


def _left(disk: Disk, moved: Path, target: Path) -> None:
    disk.root = moved
    disk.left(target)
