"""`bures harden` as a whole, on a tiny model: adapter and card, and that a killed run ends with the same weights."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bures.cli import main
from bures.data.prompts import load_corpus
from bures.errors import ConfigError, ModelError, RunError
from bures.jobs.audit import about_kept_text
from bures.jobs.examples import losses
from bures.jobs.progress import Silent
from bures.models.loading import load_model
from bures.results.run_folder import LOCK
from bures.training.checkpoints import Checkpoints
from bures.training.harden import HardenConfig, harden
from bures.training.harden.card import THREAT_MODEL, record, write_card
from bures.training.harden.config import WITHOUT, Setting
from bures.training.harden.rows import Rows, with_streams
from bures.training.loop import Trainer
from bures.training.lora import attach
from helpers import hardening, invented_audits, tiny

PEFT_WARNS = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # as it loads an adapter


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bures.training.harden.data.MEASURES", ())


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of a training on a model folder and prompt files."""
    folder = tmp_path_factory.mktemp("harden")
    model = hardening.model()
    model.hf.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    given = hardening.config().model_dump(exclude_unset=True)
    return given | {
        "model": str(folder / "model"),
        "harmful": (str(hardening.prompt_file(folder / "harmful.txt", hardening.ASKED)),),
        "harmless": (str(hardening.prompt_file(folder / "harmless.txt", tiny.PROMPTS)),),
        "attack_share": 0.5,
        "checkpoint_every": 2,
    }


class Heard(Silent):
    """Keeps what it is told; stops after a line that begins so."""

    def __init__(self, stop_at: str = "never") -> None:
        self.lines: list[str] = []
        self.stop_at = stop_at

    def say(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith(self.stop_at):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def undisturbed(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bures.training.harden.data.MEASURES", ())
        return harden(HardenConfig.make(**options), tmp_path_factory.mktemp("out") / "hardened")


@PEFT_WARNS
def test_the_adapter_is_one_that_peft_reads_and_that_merges(undisturbed: Path, options: dict[str, Any]) -> None:
    assert sorted(path.name for path in undisturbed.iterdir() if path.name != LOCK) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "recipe.json",
    ]
    weights = load_file(undisturbed / "adapter_model.safetensors")
    assert {int(name.split(".layers.")[1].split(".")[0]) for name in weights} == {1, 2}
    assert all(bool(tensor.abs().max() > 0) for tensor in weights.values())
    ids = torch.tensor([load_model(options["model"]).encode([tiny.PROMPTS[0]])[0]])
    with torch.no_grad():
        plain, merged = (load_model(options["model"], adapter=a).hf(ids).logits for a in (None, undisturbed))
    assert float((plain - merged).abs().max()) > 1e-3


def test_card_and_recipe_say_how_it_was_made_and_hold_no_path_and_no_prompt(
    undisturbed: Path, options: dict[str, Any]
) -> None:
    recipe = json.loads((undisturbed / "recipe.json").read_text())
    assert recipe["status"] == "complete"
    assert len(recipe["losses"]) == options["steps"]
    assert recipe["data"]["harmful"] == len(hardening.ASKED)
    assert recipe["base"]["name"] == "model"
    card = (undisturbed / "README.md").read_text()
    assert THREAT_MODEL in card
    assert "Nothing has been measured yet" in card
    assert "moving maps" in card
    assert "bures harden model --harmful harmful.txt --harmless harmless.txt " in card
    for text in (*hardening.ASKED, *tiny.PROMPTS, str(Path(options["model"]).parent)):
        assert text not in card + json.dumps(recipe)
    assert json.loads((undisturbed / "adapter_config.json").read_text())["base_model_name_or_path"] == "model"


@pytest.mark.parametrize(("share", "recipe", "said"), [(0.4, {}, 1), (0.4, {"own_answers": False}, 0), (0.0, {}, 0)])
def test_a_card_speaks_of_own_answers_where_there_are_some(
    undisturbed: Path, share: float, recipe: dict[str, Any], said: int, tmp_path: Path
) -> None:
    held = json.loads((undisturbed / "recipe.json").read_text())
    write_card(tmp_path, {**held, "options": {**held["options"], "own_share": share}, "own_answers": True, **recipe})
    assert (tmp_path / "README.md").read_text().count("beginning of the model's own answer") == said


def test_a_card_is_written_of_a_recipe_from_before_several_were_tried(undisturbed: Path, tmp_path: Path) -> None:
    held = json.loads((undisturbed / "recipe.json").read_text())
    attacks = {name: value for name, value in held["plan"]["attacks"].items() if name in {"share"}}
    options = {name: value for name, value in held["options"].items() if name != "own_share"}
    write_card(tmp_path, {**held, "options": options, "plan": {**held["plan"], "attacks": attacks}})
    card = (tmp_path / "README.md").read_text()
    assert "by the hardest of" not in card
    assert "were fitted before the first step" not in card
    write_card(tmp_path, {**held, "plan": {**held["plan"], "attacks": {"share": 0.5, "hardest_of": 3, "originals": 4}}})
    card = (tmp_path / "README.md").read_text()
    assert "by the hardest of 3 that are drawn; besides, a quarter of all draws are of 4 that were fitted" in card


def test_text_that_is_held_in_place_is_in_recipe_and_card_and_changes_the_weights(
    undisturbed: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over a lazy dog " * 60)
    given = options | {"text": str(tmp_path / "text.txt"), "text_rows": 3}
    out = harden(HardenConfig.make(**given), tmp_path / "hardened")
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["data"]["text"]["name"] == "text"
    assert recipe["plan"]["text_rows"] == 3
    card = (out / "README.md").read_text()
    assert "running text too: text, on which the perplexity says nothing of other text" in card
    held = load_corpus(str(tmp_path / "text.txt"))
    (said,) = about_kept_text(str(out), held)
    assert "trained to keep its perplexity on text, on which it is measured here" in said
    assert "--corpus" in said
    (tmp_path / "other.txt").write_text("a lazy dog jumps " * 200)
    assert about_kept_text(str(out), load_corpus(str(tmp_path / "other.txt"))) == []
    assert about_kept_text(str(undisturbed), held) == about_kept_text(None, held) == about_kept_text(str(out), None)
    assert str(tmp_path) not in card + json.dumps(recipe)
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (out, undisturbed)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_same_command_on_a_finished_folder_does_nothing_and_other_options_are_refused(
    undisturbed: Path, options: dict[str, Any]
) -> None:
    before = (undisturbed / "adapter_model.safetensors").stat().st_mtime_ns
    heard = Heard()
    assert harden(HardenConfig.make(**options), undisturbed, progress=heard) == undisturbed
    assert harden(HardenConfig.make(**options | {"checkpoint_every": 5}), undisturbed, progress=heard) == undisturbed
    assert not heard.lines
    assert (undisturbed / "adapter_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RunError, match=r"other options \(seed, steps\)"):
        harden(HardenConfig.make(**options | {"seed": 3, "steps": 9}), undisturbed)


def test_a_training_does_not_go_on_with_other_prompts_or_weights(options: dict[str, Any], tmp_path: Path) -> None:
    harmful = hardening.prompt_file(tmp_path / "harmful.txt", hardening.ASKED)
    shutil.copytree(options["model"], tmp_path / "model")
    given = HardenConfig.make(**options | {"harmful": (str(harmful),), "model": str(tmp_path / "model")})
    with pytest.raises(KeyboardInterrupt):
        harden(given, tmp_path / "out", progress=Heard("step 3"))
    hardening.prompt_file(harmful, hardening.ASKED[1:])
    with pytest.raises(RunError, match="the prompts have changed"):
        harden(given, tmp_path / "out")
    hardening.prompt_file(harmful, hardening.ASKED)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"] *= 2
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match="the model has changed"):
        harden(given, tmp_path / "out")


def test_where_memory_runs_out_the_same_command_with_more_passes_goes_on(
    undisturbed: Path, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*given: Any) -> Any:
        if len(given[1]) + len(given[2]) > 3:
            raise torch.OutOfMemoryError("too large")
        return losses(*given)

    monkeypatch.setattr("bures.training.harden.objective.losses", too_large)
    with pytest.raises(ModelError, match=r"memory ran out in step 1; .* a larger --accumulate than 1"):
        harden(HardenConfig.make(**options), tmp_path / "out")
    harden(HardenConfig.make(**options | {"accumulate": 4}), tmp_path / "out")
    one, other = (json.loads((path / "recipe.json").read_text()) for path in (undisturbed, tmp_path / "out"))
    assert one["losses"][0] == pytest.approx(other["losses"][0], rel=1e-4, abs=1e-6)


def same_weights(one: Path, other: Path) -> bool:
    return (one / "adapter_model.safetensors").read_bytes() == (other / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("setting", ["moving", "fail-closed"])
def test_a_run_that_is_stopped_ends_with_the_same_weights(
    setting: Setting, undisturbed: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    unused = WITHOUT.get(setting, ())
    given = HardenConfig.make(**{k: v for k, v in options.items() if k not in unused} | {"setting": setting})
    if setting != "moving":
        undisturbed = harden(given, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        harden(given, tmp_path / "out", progress=Heard("step 5"))
    assert [path.name for path in Checkpoints(tmp_path / "out" / "checkpoint").steps()] == ["step-000004"]
    heard = Heard()
    harden(given, tmp_path / "out", progress=heard)
    assert "going on after step 4" in heard.lines
    assert same_weights(tmp_path / "out", undisturbed)
    assert (
        json.loads((tmp_path / "out" / "recipe.json").read_text())["losses"]
        == json.loads((undisturbed / "recipe.json").read_text())["losses"]
    )
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_a_run_that_is_killed_ends_with_the_same_weights(
    undisturbed: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    rng = random.Random()
    step = rng.randint(1, options["steps"] - 1)
    script = Path(hardening.__file__).with_name("hardening_process.py")
    words = [json.dumps(options), str(tmp_path / "out"), str(torch.get_num_threads())]
    with subprocess.Popen([sys.executable, str(script), *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(f"step {step} "):
                break
        time.sleep(rng.random() * 0.05)
        process.kill()
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["status"] == "running", f"not killed in time at step {step}"
    harden(HardenConfig.make(**options), tmp_path / "out")
    assert same_weights(tmp_path / "out", undisturbed), f"killed after step {step}"


def test_another_seed_ends_with_other_weights(undisturbed: Path, options: dict[str, Any], tmp_path: Path) -> None:
    other = harden(HardenConfig.make(**options | {"seed": 1}), tmp_path / "out")
    assert not same_weights(other, undisturbed)


def test_a_damaged_checkpoint_and_one_of_another_training_are_told_in_one_line(tmp_path: Path) -> None:
    def trainer(**changes: Any) -> Trainer:
        model = hardening.model()
        plan = hardening.plan(model, **changes)
        return Trainer(model, attach(model, plan), plan)

    held = Checkpoints(tmp_path)
    assert held.resume(trainer(), lambda *_: None) is False
    held.write(trainer(), lambda _: {}, ())
    with pytest.raises(RunError, match="another training"):
        held.resume(trainer(first_block=0), lambda *_: None)
    (held.steps()[0] / "state.json").write_text("{")
    with pytest.raises(RunError, match="to begin anew"):
        held.resume(trainer(), lambda *_: None)


def test_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"attack_share, .*maps, memory: not of the setting control"):
        HardenConfig.make(**options | {"setting": "control"})
    with pytest.raises(ConfigError, match="first_block is 3; expected less than 3"):
        harden(HardenConfig.make(**options | {"first_block": 3}), tmp_path / "one")
    with pytest.raises(SystemExit) as end:
        main(["harden", options["model"], "--out", str(tmp_path / "two"), "--setting", "stronger"])
    assert end.value.code == 2
    assert "setting" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["harden", options["model"], "--out", str(tmp_path), "--measured", str(tmp_path)])
    assert end.value.code == 2
    assert "no readable recipe.json" in capsys.readouterr().err


def test_two_processes_end_where_one_does(undisturbed: Path, options: dict[str, Any], tmp_path: Path) -> None:
    """Each has its rows of a batch; gradients are added in another order, so weights agree but for rounding."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = Path(hardening.__file__).with_name("hardening_process.py")
    words = [json.dumps(options | {"device": "cpu"}), str(tmp_path / "out"), "1"]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), *words], env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank}
        )
        for rank in ("0", "1")
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    one, two = (load_file(path / "adapter_model.safetensors") for path in (undisturbed, tmp_path / "out"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-2, atol=1e-3)
    mine, theirs = (
        json.loads((path / "recipe.json").read_text())["losses"] for path in (undisturbed, tmp_path / "out")
    )
    for here, there in zip(mine, theirs, strict=True):
        assert here == pytest.approx(there, rel=1e-3, abs=1e-4)


@PEFT_WARNS
def test_figures_of_an_audit_come_into_the_card_and_those_of_another_adapter_do_not(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "hardened"
    shutil.copytree(undisturbed, folder)
    rows = [invented_audits.row(key, "1010", refused_harmless="0000") for key in ("none", "rfa-1")]
    result = invented_audits.audit(rows)
    with pytest.raises(RunError, match="is an audit of no adapter"):
        record(folder, invented_audits.saved(tmp_path / "plain", result))
    of_it = result.model_copy(
        update={
            "options": {**result.options, "adapter": str(folder)},
            "command": f"bures audit {tmp_path / 'model'} --adapter {folder}",
            "status": "complete",
        }
    )
    record(folder, invented_audits.saved(tmp_path / "run", of_it))
    card = (folder / "README.md").read_text()
    assert "Nothing has been measured yet" not in card
    assert "| method | block | tokens |" in card
    assert "| none | - | - |" in card
    assert "    bures audit model --adapter hardened\n" in card
    assert str(tmp_path) not in card
    assert THREAT_MODEL in card


def test_where_passes_may_begin_is_found_out_before_the_first_step() -> None:
    """Else it would depend on where a killed run goes on."""
    model = hardening.model(layers=4)
    plan = hardening.plan(model)
    rows = Rows(hardening.refusals(model), hardening.kept(model)[:3], hardening.kept(model)[3:])
    found = with_streams(model, rows, plan, Silent())
    assert found.entry == 1
    assert model.entries.behind == {1: True, 2: True}
    assert all(row.stream is not None and len(row.stream) == len(row) for row in (*found.harmful, *found.ordinary))
    assert all(row.teacher is None for row in found.harmful)
    assert all(row.teacher is not None for row in (*found.ordinary, *found.lookalikes))
    for row in found.harmful[:2]:
        states = model.hf(torch.tensor([[*row.prompt, *row.answer]]), output_hidden_states=True).hidden_states
        assert row.stream is not None
        torch.testing.assert_close(row.stream, states[1][0], rtol=1e-4, atol=1e-5)
