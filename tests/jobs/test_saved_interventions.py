"""An intervention read back from a run folder is the one that was measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import bures
import bures.results.schema
from bures.errors import RunError
from bures.jobs.saved_interventions import load_intervention, save_intervention
from bures.models.generation import generate
from bures.models.intervention import Intervention, Site
from bures.models.loading import ChatModel, load_model
from bures.results.run_folder import RunFolder, load_result
from bures.transport import fit_mean_shift
from helpers import small_run

STRENGTH = 4.0


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit at a strength other than 1, so that a lost strength shows."""
    return small_run.finished(tmp_path_factory.mktemp("saved"), strength=STRENGTH)


@pytest.fixture(scope="module")
def model(run_folder: Path) -> ChatModel:
    return load_model(run_folder.parent / "model", dtype="float32")


def answers(run_folder: Path, row: str, which: str) -> dict[str, str]:
    """Prompt -> completion."""
    lines = RunFolder(run_folder).read_completions()
    return {line["prompt"]: line["completion"] for line in lines if (line["row"], line["set"]) == (row, which)}


def test_every_kind_of_row_answers_as_in_the_run(run_folder: Path, model: ChatModel) -> None:
    rows = {row.key: row for row in load_result(run_folder).rows}
    kinds = {"none", "rfa-1", "act-1", "pca-ot-1", "pca-ot-2", "rfa-all", "pca-ot-all", "rfa-sites"}
    assert kinds <= rows.keys()
    assert not any(row.error for row in rows.values())
    untouched, moved = answers(run_folder, "none", "harmful"), []
    for key, row in rows.items():
        known = answers(run_folder, key, "harmful")
        assert len(known) == len(small_run.THINGS)
        intervention = bures.load_intervention(run_folder, row=key)
        with intervention.applied(model):
            assert generate(model, list(known), max_new_tokens=small_run.MAX_NEW_TOKENS) == list(known.values()), key
        assert intervention.blocks == tuple(row.blocks) or key == "rfa-sites"
        assert intervention.tokens == (row.tokens or "all")
        moved += [key] if known != untouched else []
    assert {"act-all", "pca-ot-2", "pca-ot-all", "rfa-sites"} <= {*moved}  # or the test shows nothing


def test_one_direction_at_three_sites_is_one_map(run_folder: Path) -> None:
    intervention = load_intervention(run_folder, "rfa-sites")
    assert set(intervention.sites) == {Site(b, w) for b in range(3) for w in ("input", "attention", "mlp")}
    assert len({id(map_) for map_ in intervention.maps.values()}) == 1
    assert intervention.strength == STRENGTH
    assert len(list((run_folder / "maps").glob("rfa-sites-*.safetensors"))) == 1


def test_maps_come_back_bit_for_bit(tmp_path: Path) -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    one, two = fit_mean_shift(x, x + 1), fit_mean_shift(x, x.flip(0) * 2)
    folder = RunFolder(tmp_path)
    (tmp_path / "maps").mkdir()
    before = Intervention({0: one, Site(1, "mlp"): two, Site(2, "mlp"): two}, tokens="last", strength=0.25)
    save_intervention(folder, "pca-ot-1", before)
    (tmp_path / "results.json").write_text(fake_results("pca-ot-1"))
    after = load_intervention(tmp_path)
    assert after.sites == (Site(0), Site(1, "mlp"), Site(2, "mlp"))
    assert (after.tokens, after.strength) == ("last", 0.25)
    for site, map_ in zip(before.sites, before.maps.values(), strict=True):
        h = torch.randn(3, 4)
        assert torch.equal(after.maps[site](h), map_(h))


def fake_results(*keys: str) -> str:
    """The least that reads as an audit."""
    row = {"label": "x", "method": "pca-ot", "blocks": [0], "sites": "0", "tokens": "last", "rank": 1}
    held: dict[str, Any] = {
        "schema_version": bures.results.schema.SCHEMA_VERSION,
        "job": "audit",
        "command": "bures audit x",
        "options": {},
        "versions": {},
        "model": {},
        "prompts": {},
        "judge": "arditi",
        "seed": 0,
        "corpus": None,
        "max_new_tokens": 1,
        "rows": [{"key": key, **row} for key in keys],
    }
    return json.dumps(held)


def break_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def act(run: Path) -> None:
        file = run / "maps" / "pca-ot-1.json"
        held = json.loads(file.read_text())
        change(held)
        file.write_text(json.dumps(held))

    return act


@pytest.mark.parametrize(
    ("act", "row", "words"),
    [
        (lambda _: None, "pca-ot-9", "no row 'pca-ot-9'"),
        (lambda run: (run / "results.json").unlink(), "pca-ot-1", "no results.json"),
        (lambda run: (run / "maps" / "pca-ot-1.json").unlink(), "pca-ot-1", "cannot read"),
        (lambda run: (run / "maps" / "pca-ot-1.json").write_text("{"), "pca-ot-1", "cannot read"),
        (lambda run: [p.unlink() for p in run.glob("maps/pca-ot-1-*.safetensors")], "pca-ot-1", "no map file"),
        (break_manifest(lambda held: held.update(tokens="some")), "pca-ot-1", "cannot read"),
        (break_manifest(lambda held: held["sites"][0].update(map="../../elsewhere")), "pca-ot-1", "cannot read"),
    ],
)
def test_what_is_missing_or_damaged_is_one_line(
    run_folder: Path, tmp_path: Path, act: Callable[[Path], object], row: str, words: str
) -> None:
    copy = Path(shutil.copytree(run_folder, tmp_path / "copy"))
    act(copy)
    with pytest.raises(RunError, match=words):
        load_intervention(copy, row)


def test_a_row_that_failed_has_nothing_to_load(run_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_folder, tmp_path / "copy"))
    held = json.loads((copy / "results.json").read_text())
    held["rows"][1]["error"] = "activations are NaN"
    (copy / "results.json").write_text(json.dumps(held))
    with pytest.raises(RunError, match="activations are NaN"):
        load_intervention(copy, held["rows"][1]["key"])
