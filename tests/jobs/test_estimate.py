"""What a job will take, before its model is loaded: passes against those of real audits, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bures
from bures import cli
from bures.errors import ModelError
from bures.jobs.config import AuditConfig
from bures.jobs.estimate import Estimate, estimate
from bures.jobs.scan_config import ScanConfig
from bures.models.costing import Machine, token_passes
from bures.models.loading import ChatModel, load_model
from helpers import tiny
from helpers.counting import counted
from helpers.small_run import pretend_refusals

MACHINE = Machine(flops=1e9, bandwidth=1e9, call=1e-4)
WITHIN = 0.10
"""Of the passes that a job makes."""

THINGS = [
    f"{a} {b}" for a in ("red", "blue", "old", "new") for b in ("apples", "bridges", "clouds", "drums", "engines")
]


def files(folder: Path) -> dict[str, str]:
    """Six prompt files of twenty prompts, of different lengths."""
    found: dict[str, str] = {}
    for side, verb in (("harmful", "Sketch the plan of"), ("harmless", "Describe, as you like,")):
        for split in ("fit", "select", "test"):
            path = folder / f"{side}_{split}.txt"
            path.write_text("".join(f"{verb} {t} for {split}{'.' * (i % 7)}\n" for i, t in enumerate(THINGS)))
            found[f"{side}_{split}"] = str(path)
    return found


def _passes(model: ChatModel, seen: list[int]) -> float:
    """Whole passes of a token: what the blocks were handed, over their number."""
    return sum(seen) / len(model.blocks)


@pytest.mark.parametrize(
    ("layers", "options"),
    [
        (4, {"scopes": ("last",), "n_again": 0, "corpus": True}),
        (6, {"methods": ("rfa", "pca-ot"), "ranks": (1,), "scopes": ("all",), "depth": (0.3, 0.7)}),
        (8, {"methods": ("rfa", "pca-ot"), "depth": (0.4, 0.8), "max_new_tokens": 16}),
    ],
)
def test_passes_are_foreseen_within_a_tenth(
    layers: int, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.folder(tmp_path / "model", layers=layers)
    (tmp_path / "text.txt").write_text("some plain text, " * 200)
    given: dict[str, Any] = {
        "n_fit": 12,
        "n_select": 12,
        "n_again": 6,
        "max_new_tokens": 10,
        "select_tokens": 6,
        "ranks": (1, 2),
        **files(tmp_path),
        **options,
    }
    given["corpus"] = str(tmp_path / "text.txt") if given.get("corpus") else None
    config = AuditConfig.make(model=str(path), dtype="float32", device="cpu", corpus_tokens=1024, **given)
    found = estimate(config, MACHINE)
    assert found.are_counted

    pretend_refusals(monkeypatch)  # so no refusal tokens are looked for
    monkeypatch.setattr("bures.jobs.scan._joint", lambda *_: ((), None, None))  # nothing is decided in random weights
    model = load_model(path, dtype="float32", device="cpu")
    monkeypatch.setattr("bures.jobs.beginning.open_model", lambda *_: model)
    with counted(model) as seen:
        result = bures.audit(config, tmp_path / "run")
    foreseen = found.token_passes - token_passes(found.job.stages["refusal tokens"])
    assert found.job.candidates == len(result.scan)
    assert found.job.rows == len(result.rows)
    low, high = (end + foreseen - found.token_passes for end in found.job.spread)
    assert low <= foreseen <= high
    assert (1 - WITHIN) * low <= _passes(model, seen) <= (1 + WITHIN) * high
    if len(config.scopes) == 1:  # the scope that is chosen decides half of what rows take
        assert foreseen == pytest.approx(_passes(model, seen), rel=WITHIN)


def test_answers_that_refusal_tokens_are_looked_for_in_are_foreseen(tmp_path: Path) -> None:
    path = tiny.folder(tmp_path / "model")
    config = ScanConfig.make(
        model=str(path), dtype="float32", device="cpu", n_fit=10, n_select=8, ranks=(1,), **scanned(tmp_path)
    )
    found = estimate(config, MACHINE)
    model = load_model(path, dtype="float32", device="cpu")
    prompts = [(tmp_path / f"{side}_fit.txt").read_text().splitlines()[:10] for side in ("harmful", "harmless")]
    from bures.models.generation import generate_ids

    with counted(model) as seen:
        for each in prompts:
            answers = generate_ids(model, each, max_new_tokens=24)
            assert max(map(len, answers)) == 24
    assert token_passes(found.job.stages["refusal tokens"]) == pytest.approx(_passes(model, seen), rel=0.15)


def scanned(folder: Path) -> dict[str, str]:
    return {name: path for name, path in files(folder).items() if not name.endswith("test")}


def small(folder: Path, **options: Any) -> Estimate:
    path = folder / "model"
    if not path.exists():
        tiny.folder(path)
    given = {"n_fit": 12, "n_select": 8, "ranks": (1,), "corpus": None, **files(folder), **options}
    return estimate(AuditConfig.make(model=str(path), dtype="float32", device="cpu", **given), MACHINE)


def test_more_of_anything_takes_more(tmp_path: Path) -> None:
    least = small(tmp_path)
    for options in ({"ranks": (1, 2)}, {"n_select": 12}, {"n_fit": 14}, {"max_new_tokens": 100}):
        more = small(tmp_path, **options)
        assert more.token_passes > least.token_passes, options
        assert more.seconds > least.seconds, options
    assert small(tmp_path, all_blocks=False).token_passes < least.token_passes


def test_nothing_is_loaded_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny.folder(tmp_path / "model")
    for file in path.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:4096])  # a header without weights
    monkeypatch.setattr("bures.models.costing._LONG", 0.01)
    monkeypatch.chdir(tmp_path)
    given = [x for name, p in files(tmp_path).items() for x in (f"--{name.replace('_', '-')}", p)]
    arguments = ["audit", str(path), *given, "--n-fit", "12", "--ranks", "1", "--corpus", "none", "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        cli.main([*arguments, "--estimate"])
    printed = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    for words in ("estimated, not measured", "harmful-fit 12", "candidates: ", "memory: about", "GFLOP/s", "together"):
        assert words in printed, words
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--estimate", "--json"])
    held = json.loads(capsys.readouterr().out)
    assert held["measured"] is False
    assert held["token_passes"] == pytest.approx(sum(stage["token_passes"] for stage in held["stages"]), abs=8)
    assert held["prompts_counted_by_tokenizer"] is True
    assert not (tmp_path / "runs").exists()


def test_without_a_tokenizer_prompts_are_guessed_and_said_to_be(tmp_path: Path) -> None:
    found = small(tmp_path)
    for file in (tmp_path / "model").glob("*token*"):
        file.unlink()
    (tmp_path / "model" / "chat_template.jinja").unlink(missing_ok=True)
    guessed = small(tmp_path)
    assert not guessed.are_counted
    assert 0.1 * found.token_passes < guessed.token_passes < 3 * found.token_passes  # a token of these is one byte


def test_a_configuration_that_says_nothing_is_one_line(tmp_path: Path) -> None:
    path = tiny.folder(tmp_path / "model")
    (path / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ModelError, match="does not say what the model will be"):
        small(tmp_path)
