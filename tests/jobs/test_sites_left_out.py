"""An audit of an architecture in which nothing is known of what the blocks add: no row for it, and a word about why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bures.jobs.audit import audit
from bures.jobs.config import AuditConfig
from helpers import families, small_run, tiny


@pytest.mark.parametrize(("name", "has_sites"), [("norms behind", True), ("elementwise residual weights", False)])
def test_the_row_at_three_sites(name: str, has_sites: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    families.network(name).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    small_run.pretend_refusals(monkeypatch)
    files: dict[str, Any] = {side: str(path) for side, path in small_run.prompt_files(tmp_path).items()}
    config = AuditConfig(
        model=str(tmp_path / "model"),
        methods=("rfa",),
        scopes=("all",),
        corpus=None,
        dtype="float32",
        max_new_tokens=2,
        select_tokens=2,
        limit=4,
        **files,
    )
    result = audit(config, tmp_path / "run")
    assert ("rfa-sites" in {row.key for row in result.rows}) == has_sites
    assert {"rfa-1", "rfa-all"} <= {row.key for row in result.rows}
    notes = [note for note in result.notes if "at three sites" in note]
    left_out = "The row at three sites of every block is left out for this architecture: what block 0 hands on is not"
    assert [note[: len(left_out)] for note in notes] == ([] if has_sites else [left_out])
