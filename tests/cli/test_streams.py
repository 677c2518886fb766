"""The command line in a process of its own: stdout is for results, in any locale, and folders may have any name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from bures import cli
from bures.cli.console import stdout_kept
from bures.cli.judge import app as judge_app
from helpers import scripted

NAME = "modèle ± №1"
"""Of the model's folder: no encoding but Unicode's has all of its letters."""

Command = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    scripted.folder(folder / NAME)
    for side in ("harmful", "harmless"):
        (folder / f"{side}.txt").write_text("\n".join(scripted.prompts(40, bad=side == "harmful")))
    return folder


@pytest.fixture(scope="module")
def command(place: Path) -> Command:
    """Runs the command line in the folder, with further variables."""

    def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "PYTHONIOENCODING")}
        done = subprocess.run(
            [sys.executable, "-m", "bures", *arguments],
            cwd=place,
            env={**env, "PYTHONUTF8": "0", **variables},
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
        return done

    return call


PROMPTS = ("--harmful", "harmful.txt", "--harmless", "harmless.txt", "--methods", "rfa,mean-act", "--scopes", "all")
AUDIT = ("audit", NAME, *PROMPTS, "--corpus", "none", "--limit", "8", "--no-all-blocks", "--out", "audit")
SHORT = ("--max-new-tokens", "8", "--select-tokens", "8")


@pytest.fixture(scope="module")
def audited(command: Command, place: Path) -> subprocess.CompletedProcess[bytes]:
    """An audit in a locale without any letter but ASCII's."""
    done = command(*AUDIT, *SHORT, "--json", PYTHONIOENCODING="ascii:strict")
    shutil.copytree(place / "audit", place / "again")
    return done


def test_stdout_of_an_audit_is_json(audited: subprocess.CompletedProcess[bytes], place: Path) -> None:
    assert audited.returncode == 0, audited.stderr
    assert json.loads(audited.stdout) == json.loads((place / "audit" / "results.json").read_text())
    assert b"loading the model" in audited.stderr  # it did say something


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("scan", NAME, *PROMPTS, "--limit", "8", "--out", "scan", "--json"), 0),
        (("compare", "audit", "again", "--json"), 0),
        (("gate", "audit", "--max-asr", "0.9", "--max-over-refusal", "0.9", "--json"), None),
        (("history", "audit", "--json"), 0),
        (("judge", "audit", "--judge", "gcg", "--json"), 0),
    ],
)
@pytest.mark.usefixtures("audited")
def test_stdout_of_the_others_is_json(command: Command, arguments: tuple[str, ...], code: int | None) -> None:
    done = command(*arguments)
    assert done.returncode in ((0, 1) if code is None else (code,)), done.stderr
    assert isinstance(json.loads(done.stdout), dict)


LOCALES: list[dict[str, str]] = [
    {"LC_ALL": "C", "PYTHONUTF8": ""},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "latin-1", "LANG": "", "LC_ALL": ""},
]


@pytest.mark.parametrize("variables", LOCALES)
@pytest.mark.usefixtures("audited")
def test_tables_in_any_locale(command: Command, variables: dict[str, str]) -> None:
    history = command("history", "audit", "again", **variables)
    assert history.returncode == 0, history.stderr
    assert b"ASR" in history.stdout


@pytest.mark.usefixtures("audited")
def test_a_finished_audit_in_ascii(command: Command) -> None:
    done = command(*AUDIT, *SHORT, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"Mean-AcT" in done.stdout
    assert rb"mod\xe8le +/- \u21161" in done.stdout


@pytest.mark.usefixtures("audited")
def test_a_locale_that_cannot_read_the_arguments(command: Command) -> None:
    bare = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    assert b"ASR" in command("history", "audit", "again", **bare).stdout
    refused = command(*AUDIT, *SHORT, **bare)
    assert refused.returncode == 2
    assert refused.stderr.count(b"\n") == 1
    assert b"set PYTHONUTF8=1" in refused.stderr


def test_what_libraries_print_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with stdout_kept():
        print("chatter")
        os.write(1, b"chatter of a process\n")
        subprocess.run([sys.executable, "-c", "print('chatter of a child')"], check=True)
    print("result")
    found = capfd.readouterr()
    assert found.out == "result\n"
    assert {"chatter", "chatter of a process", "chatter of a child"} <= set(found.err.splitlines())
    with pytest.raises(KeyError), stdout_kept():
        raise KeyError
    print("still there")
    assert capfd.readouterr().out == "still there\n"


# --- run folders with the names of subcommands -----------------------------------------------------------------------


@pytest.fixture
def meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[str, dict[str, Any]]]:
    """Which subcommand of `bures judge` arguments mean, and what it is given; run folders of all three names exist."""
    for name in ("run", "evaluate", "train", "plain"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    found: list[tuple[str, dict[str, Any]]] = []
    group: Any = typer.main.get_command(judge_app)
    for name, each in group.commands.items():
        monkeypatch.setattr(each, "callback", lambda name=name, **given: found.append((name, given)))

    def call(*arguments: str) -> tuple[str, dict[str, Any]]:
        group(list(arguments), standalone_mode=False)
        return found.pop()

    return call


@pytest.mark.parametrize("folder", ["run", "evaluate", "train", "plain", "./run", "runs/../run"])
def test_a_run_folder_may_have_any_name(meant: Callable[..., tuple[str, dict[str, Any]]], folder: str) -> None:
    Path("runs").mkdir()
    for arguments in ((folder, "--judge", "gcg"), (folder, "--json", "--judge=gcg"), ("run", folder, "--judge", "gcg")):
        name, given = meant(*arguments)
        assert (name, given["folder"], given["judge"]) == ("run", folder, ["gcg"])


def test_what_only_a_subcommand_takes_means_the_subcommand(meant: Callable[..., tuple[str, dict[str, Any]]]) -> None:
    assert meant("train", "--out", "x")[0] == "train"
    assert meant("evaluate", "a.csv", "--judge", "gcg")[0] == "evaluate"
    assert meant("evaluate", "--cut", "5")[0] == "evaluate"
    assert meant("run", "plain", "--judge", "gcg")[1]["folder"] == "plain"
    (Path("evaluate") / "results.json").unlink()
    assert meant("evaluate", "--judge", "gcg")[0] == "evaluate"  # no run folder any more


def test_the_help_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["judge", "--help"])
    assert "also for a folder named run, evaluate, label or train" in " ".join(capsys.readouterr().out.split())
