"""Files of strangers: nothing in them is run, and nothing is sent anywhere."""

from __future__ import annotations

import ast
import json
import pickle
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bures
from bures.data.prompts import load_prompts
from bures.errors import BuresError, ModelError
from bures.jobs.audit import audit
from bures.jobs.config import AuditConfig
from bures.models.loading import load_model
from bures.report.build import write_report
from bures.transport import load_map
from chaos import bad_inputs, kills
from helpers import scripted

SOURCES = sorted(Path(bures.__file__).parent.rglob("*.py"))
RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code", "imp"}

armed: list[str] = []
"""Names that were unpickled while somebody looked."""
looking: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if looking and event == "pickle.find_class":
        armed.append(".".join(map(str, arguments[1:] if len(arguments) > 2 else arguments)))


sys.addaudithook(_hook)


@pytest.fixture
def unpickled() -> Iterator[list[str]]:
    """What is unpickled during a test."""
    armed.clear()
    looking.append(True)
    yield armed
    looking.clear()


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What a bomb leaves behind."""
    return tmp_path / "went-off"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A good model."""
    return scripted.folder(tmp_path / "model")


def test_a_bomb_goes_off(marker: Path, unpickled: list[str]) -> None:
    pickle.loads(pickle.dumps(Bomb(marker)))  # noqa: S301
    assert marker.exists()
    assert unpickled


# Pickles ------------------------------------------------------------------------------------------------------------


def test_no_module_imports_what_runs_code() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not RUNS_CODE & {name.partition(".")[0] for name in names}, path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "np.load", "numpy.load", "pd.read_pickle"), path


def test_every_network_is_loaded_from_safetensors_alone() -> None:
    found: list[str] = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("from_pretrained"):
                whose = ast.unparse(node.func).removesuffix(".from_pretrained")
                if whose.endswith(("AutoTokenizer", "AutoConfig", "GenerationConfig", "PeftModel", "from_pretrained")):
                    continue
                safe = "use_safetensors=True" in ast.unparse(node) or 'loading["use_safetensors"] = True' in text
                assert safe, f"{path}: {ast.unparse(node)}"
                found.append(path.name)
    assert set(found) == {"checkpoints.py", "classifiers.py"}


def test_pickled_weights_are_not_read(model: Path, marker: Path, unpickled: list[str]) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (model / name).write_bytes(pickle.dumps(Bomb(marker)))
    load_model(model)
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        load_model(model)
    assert not marker.exists()
    assert unpickled == []


def test_pickled_adapters_are_not_read(tmp_path: Path, model: Path, marker: Path, unpickled: list[str]) -> None:
    bad_inputs.write_adapter(tmp_path)
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(marker)))
    load_model(model, adapter=tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError):
        load_model(model, adapter=tmp_path / "adapter")
    assert not marker.exists()
    assert unpickled == []


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.pkl", "a.npy"])
def test_pickled_maps_and_prompts_are_not_read(name: str, tmp_path: Path, marker: Path, unpickled: list[str]) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(marker)))
    for read in (load_map, load_prompts):
        with pytest.raises(BuresError):
            read(str(tmp_path / name))
    assert not marker.exists()
    assert unpickled == []


# Code beside a model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["config.json", "tokenizer_config.json"])
def test_code_beside_a_model_is_not_run(what: str, model: Path, marker: Path) -> None:
    (model / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Evil: pass\n")
    held = json.loads((model / what).read_text())
    held["auto_map"] = {
        "AutoConfig": "evil.Evil",
        "AutoModelForCausalLM": "evil.Evil",
        "AutoTokenizer": ["evil.Evil", "evil.Evil"],
    }
    if what == "config.json":
        held["model_type"] = "evil"
    else:
        held["tokenizer_class"] = "Evil"
    (model / what).write_text(json.dumps(held))
    with pytest.raises(ModelError):
        load_model(model)
    assert not marker.exists()


# The network --------------------------------------------------------------------------------------------------------


def test_an_audit_of_local_files_opens_no_connection_and_keeps_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []

    def connect(self: socket.socket, address: object) -> None:
        tried.append(address)
        raise OSError("no network")

    secrets = {name: f"s3cret-{name}" for name in ("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY")}
    for name, value in {**secrets, "PIP_INDEX_URL": "https://me:s3cret-pip@index.invalid/simple"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **_: connect(socket.socket(), a))
    kills.write_inputs(tmp_path)
    sides = [(side, split) for side in ("harmful", "harmless") for split in ("fit", "select", "test")]
    given: dict[str, Any] = {f"{side}_{split}": str(tmp_path / f"{side}_{split}.txt") for side, split in sides}
    config = AuditConfig.make(
        model=str(tmp_path / "model"), methods=("mean-act",), corpus=None, max_new_tokens=4, n_select=8, **given
    )
    audit(config, tmp_path / "run")
    write_report(tmp_path / "run")
    assert tried == []
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path.name for path in files if b"s3cret" in path.read_bytes()]
