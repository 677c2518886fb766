"""The file of options that `bures init` prints, options out of a run's own file, and folders of models that are not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bures import cli
from bures.cli.init import _SCHEMAS
from bures.errors import ConfigError
from bures.jobs.config import AuditConfig
from bures.jobs.options import layered, read_options
from bures.results.asked import options_of


def called(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main([str(each) for each in arguments])
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize("job", _SCHEMAS)
def test_every_option_is_there_with_its_default(job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = called(capsys, "init", job)
    assert code == 0
    schema = _SCHEMAS[job]
    wanted = {name for name in options_of(schema) if name not in getattr(schema, "shorthands", {})} - {"storage"}
    keys = {match.replace("-", "_") for match in re.findall(r"^#? ?([a-z][\w-]*) =", text, flags=re.MULTILINE)}
    assert keys == wanted
    in_force = re.sub(r"^# ([a-z][\w-]* = (?!   ))", r"\1", text, flags=re.MULTILINE)
    (tmp_path / "all.toml").write_text(in_force, encoding="utf-8")
    held = read_options(tmp_path / "all.toml")
    for name, value in held.items():
        field = schema.model_fields[name]
        default = field.default
        assert field.is_required() or json.loads(json.dumps(default)) == value


def test_the_printed_file_is_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "audit.toml").write_text(called(capsys, "init")[1], encoding="utf-8")
    assert layered(AuditConfig, read_options(tmp_path / "audit.toml")) == AuditConfig(model="organism")


def test_a_runs_own_file_is_a_configuration(tmp_path: Path) -> None:
    config = AuditConfig.make(model="m", methods=("rfa",), ranks=(1,), n_fit=7, corpus=None)
    (tmp_path / "config.json").write_text(json.dumps(config.options), encoding="utf-8")
    assert AuditConfig.make(**read_options(tmp_path / "config.json")) == config
    (tmp_path / "config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"expected the config\.json of a run"):
        read_options(tmp_path / "config.json")


def test_a_misspelt_option_is_told_its_neighbour() -> None:
    with pytest.raises(ConfigError, match="did you mean max-kl"):
        AuditConfig.make(model="m", max_kll=1.0)
    with pytest.raises(ConfigError, match="known options: model, "):
        AuditConfig.make(model="m", qqqq=1.0)


@pytest.mark.parametrize("model", ["nobody/nothing", "./nowhere"])
def test_a_model_that_is_not_there_leaves_no_folder(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    sides = [f"{side}_{split}" for side in ("harmful", "harmless") for split in ("fit", "select")]
    given: list[object] = []
    for i, side in enumerate(sides):
        (tmp_path / f"{side}.txt").write_text("".join(f"Name {i} {n}\n" for n in range(20)))
        given += [f"--{side.replace('_', '-')}", tmp_path / f"{side}.txt"]
    code, _, err = called(capsys, "scan", model, "--out", tmp_path / "run", *given)
    assert code == 2
    assert len([line for line in err.splitlines() if line.startswith("bures: ")]) == 1
    assert not (tmp_path / "run").exists()
