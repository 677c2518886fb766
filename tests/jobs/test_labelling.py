"""Labelling a run's answers: the sample, what is kept, the figures, and the command."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bures.cli import app
from bures.cli.judge_label import printable
from bures.errors import ConfigError, RunError
from bures.jobs.labelling import Labelling
from helpers import small_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run.finished(tmp_path_factory.mktemp("labelled"))


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_sample_is_spread_over_rows_and_the_same_for_everybody(folder: Path) -> None:
    one, other = Labelling(folder, 6), Labelling(folder, 6, labeller="anna")
    assert [shown.key for shown in one.sample] == [shown.key for shown in other.sample]
    assert len({shown.key for shown in one.sample}) == len(one.sample) <= 6
    everything = Labelling(folder, 10_000)
    names = {name for row in everything.rows for name in row.names.values()}
    assert {shown.key for shown in everything.sample} == names


def test_rows_can_be_named(folder: Path) -> None:
    named = Labelling(folder, 4, rows=["none"])
    assert {shown.key for shown in named.sample} <= set(named.rows[0].names.values())
    assert len(named.sample) == 4
    with pytest.raises(ConfigError, match=r"no row rfa-9 with finished answers; expected one of none, "):
        Labelling(folder, 4, rows=["rfa-9", "none"])


def test_labels_are_kept_and_go_on_and_hold_no_text(folder: Path) -> None:
    labelling = Labelling(folder, 6)
    first = labelling.sample[0]
    labelling.say(first.key, "partial refusal")
    path = folder / "labels" / "me.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["said"] == {first.key: "partial refusal"}
    assert not any(thing in path.read_text() for thing in small_run.THINGS)
    again = Labelling(folder, 6)
    assert again.file.said == {first.key: "partial refusal"}
    assert first.key not in {shown.key for shown in again.left}
    assert len(again.left) == len(again.sample) - 1


def test_every_row_gets_an_asr_from_its_labels(folder: Path) -> None:
    labelling = Labelling(folder, 10_000)
    assert all(row.asr is None for row in labelling.asr())
    for shown in labelling.sample:
        labelling.say(shown.key, "answer")
    rows = labelling.asr()
    assert [row.labels for row in rows] == [len(row.names) for row in labelling.rows]
    assert all(row.asr is not None and row.asr.value == 1.0 for row in rows)
    for shown in labelling.sample:
        labelling.say(shown.key, "partial refusal")
    assert all(row.asr is not None and row.asr.value == 0.0 for row in labelling.asr())


def test_two_people_have_an_agreement(folder: Path) -> None:
    one, other = Labelling(folder, 6), Labelling(folder, 6, labeller="anna")
    for place, shown in enumerate(one.sample):
        one.say(shown.key, "refusal" if place % 2 else "answer")
        other.say(shown.key, "partial refusal" if place % 2 else "answer")
    assert one.agreements() == [("anna", len(one.sample), 1.0, 1.0)]


def test_mistakes_are_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot name a file"):
        Labelling(folder, 6, labeller="../anna")
    with pytest.raises(ConfigError, match="was not asked in this run; expected one of"):
        Labelling(folder, 6, judge="wildguard")
    with pytest.raises(RunError):
        Labelling(tmp_path / "nowhere", 6)
    (folder / "labels").mkdir()
    labelling = Labelling(folder, 6)
    labelling.say(labelling.sample[0].key, "answer")
    with pytest.raises(ConfigError, match="leave out --judge, or label as somebody else with --as"):
        Labelling(folder, 6, judge="gcg" if labelling.judge != "gcg" else "arditi")
    lines = (folder / "completions.jsonl").read_text().splitlines()
    (folder / "completions.jsonl").write_text(
        "".join(json.dumps({**json.loads(line), "completion": "Something else."}) + "\n" for line in lines)
    )
    with pytest.raises(RunError, match="are of other answers; remove their file"):
        Labelling(folder, 6)
    (folder / "labels" / "me.json").write_text('{"a": "maybe"}')
    with pytest.raises(RunError, match="remove the file to begin again"):
        Labelling(folder, 6)


def test_the_command_takes_a_key_an_answer_and_resumes(folder: Path) -> None:
    run = CliRunner()
    said = run.invoke(app, ["judge", "label", str(folder), "--n", "4"], input="x\nr\na\nq\n")
    assert said.exit_code == 0, said.output
    assert "r refuses, p refuses in part" in said.output
    assert "2 of" in said.output
    assert sorted(json.loads((folder / "labels" / "me.json").read_text())["said"].values()) == ["answer", "refusal"]
    said = run.invoke(app, ["judge", "label", str(folder), "--n", "4"], input="s\n" + "p\n" * 8)
    assert said.exit_code == 0, said.output
    assert "--- 3 of" in said.output
    figures = json.loads(run.invoke(app, ["judge", "label", str(folder), "--n", "4", "--json"]).output)
    assert {"row", "labels", "asr", "asr_by_judge"} == set(figures[0])
    assert any(row["labels"] for row in figures)


def test_one_session_a_labeller_at_a_time(folder: Path, tmp_path: Path) -> None:
    run = CliRunner()
    arguments = ["judge", "label", str(folder), "--n", "4"]
    with Labelling.session(folder, 4) as first:
        first.say(first.sample[0].key, "refusal")
        kept = (folder / "labels" / "me.json").read_bytes()
        second = run.invoke(app, arguments, input="a\n" * 4)
        assert isinstance(second.exception, RunError)
        assert "'me' labels" in str(second.exception)
        assert "\n" not in str(second.exception)
        with pytest.raises(RunError, match="in another session"):
            Labelling(folder, 4).say(first.sample[1].key, "answer")
        assert (folder / "labels" / "me.json").read_bytes() == kept
        assert run.invoke(app, [*arguments, "--json"]).exit_code == 0
        assert run.invoke(app, [*arguments, "--as", "anna"], input="a\nq\n").exit_code == 0
        first.say(first.sample[1].key, "answer")
    assert run.invoke(app, arguments, input="p\n" * 4).exit_code == 0
    said = json.loads((folder / "labels" / "me.json").read_text())["said"]
    assert {first.sample[0].key: "refusal", first.sample[1].key: "answer"}.items() <= said.items()
    with pytest.raises(RunError), Labelling.session(tmp_path, 4):
        pass
    assert not (tmp_path / "labels").exists()


def test_labels_that_were_read_before_another_session_overwrite_nothing(folder: Path) -> None:
    early, late = Labelling(folder, 4), Labelling(folder, 4)
    late.say(late.sample[0].key, "refusal")
    late.say(late.sample[1].key, "answer")
    with pytest.raises(RunError, match=r"has labelled .* as 'me' meanwhile; begin again"):
        early.say(early.sample[0].key, "answer")
    assert Labelling(folder, 4).file.said == late.file.said


def test_a_gate_decides_by_labels_without_the_completions(folder: Path) -> None:
    run = CliRunner()
    said = run.invoke(app, ["judge", "label", str(folder), "--row", "none", "--n", "50"], input="r\n" * 50)
    assert said.exit_code == 0, said.output
    (folder / "completions.jsonl").unlink()
    passed = run.invoke(app, ["gate", str(folder), "--max-asr", "0.9", "--row", "none", "--labels", "me"])
    assert passed.exit_code == 0, passed.output
    assert "10 labels" in " ".join(passed.output.split())
    assert "ASR by labels of 'me' (10 in 1 row)" in " ".join(passed.output.split())
    other = run.invoke(app, ["gate", str(folder), "--max-asr", "0.9", "--row", "rfa-1", "--labels", "me"])
    assert isinstance(other.exception, RunError)
    assert "row rfa-1" in str(other.exception)


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert printable("a\x1b[2Jb\u202ec\nd\te") == "a\ufffd[2Jb\ufffdc\nd\te"
