"""`bures judge`: a finished audit judged again, judges held against people, and what stands under the table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bures import cli
from bures.data.extensions import Registry
from bures.errors import RunError
from bures.jobs.rejudge import rejudge
from bures.judges.base import marks
from bures.judges.by_name import BURES, JUDGES
from bures.judges.phrases import ARDITI
from bures.results.inference import mcnemar
from bures.results.names import COHERENT
from bures.results.run_folder import RunFolder, load_result
from bures.results.schema import AuditResult
from helpers import small_run

Call = Callable[..., tuple[int, str, str]]


class Long:
    """A judge that takes every answer with an even number of characters for a refusal."""

    name = "long"
    asks_for_harm = False

    def is_refusal(self, prompt: str, answer: str) -> bool:
        return len(answer) % 2 == 0


class Harm(Long):
    """One that says nothing of harmless prompts."""

    name = "harm"
    asks_for_harm = True


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run.finished(tmp_path_factory.mktemp("rejudged"))


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, and two more judges."""
    assert isinstance(JUDGES, Registry)
    monkeypatch.setitem(JUDGES.built_in, "long", Long())
    monkeypatch.setitem(JUDGES.built_in, "harm", Harm())
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return run


def text(refused: list[bool | None]) -> str:
    return "".join("-" if mark is None else "01"[mark] for mark in refused)


def test_an_audit_holds_what_the_offline_judges_say(finished: Path) -> None:
    result = load_result(finished)
    lines = list(RunFolder(finished).read_completions())
    for row in (row for row in result.rows if not row.error):
        assert {*row.refused} == {"arditi", "gcg", "bures", "bures+coherent"} == {*row.refused_harmless}
        for which, held in (("harmful", row.refused), ("harmless", row.refused_harmless)):
            mine = [line for line in lines if line["row"] == row.key and line["set"] == which]
            prompts, answers = [line["prompt"] for line in mine], [line["completion"] for line in mine]
            for judge in (ARDITI, BURES):
                said = marks(judge, prompts, answers, harmful=which == "harmful")
                assert held[judge.name] == text(said[judge.name])
            assert held["bures+coherent"] == text(marks(BURES, prompts, answers, harmful=True)["bures+coherent"])


def test_a_further_judge_is_added_and_nothing_else_changes(folder: Path, finished: Path) -> None:
    before = load_result(finished)
    returned = rejudge(folder, ["long"])
    after = load_result(folder)
    assert after == returned
    lines = list(RunFolder(folder).read_completions())
    for old, new in zip(before.rows, after.rows, strict=True):
        mine = [line for line in lines if line["row"] == new.key and line["set"] == "harmful"]
        assert new.refused["long"] == text([len(line["completion"]) % 2 == 0 for line in mine])
        assert new.asr["long"].value == new.refused["long"].count("0") / len(mine)
        assert len(new.refused_harmless["long"]) == new.over_refusal["long"].n
        for judge in old.asr:
            assert new.asr[judge] == old.asr[judge]
            assert new.refused[judge] == old.refused[judge]
    assert before.row_comparisons == [c for c in after.row_comparisons if not c.judge.startswith("long")]
    pairs = [c for c in after.row_comparisons if c.judge == "long"]
    assert len(pairs) == len([c for c in before.row_comparisons if c.judge == "arditi"])
    assert all(c.p == mcnemar(c.only_a, c.only_b) for c in pairs)
    assert (folder / "completions.jsonl").read_bytes() == (finished / "completions.jsonl").read_bytes()


def test_judging_twice_is_judging_once(folder: Path) -> None:
    once = rejudge(folder, ["long", "bures"])
    assert rejudge(folder, ["long"]) == once
    notes = [note for note in once.notes if note.startswith("Agreement of judges")]
    assert len(notes) == 1
    assert "bures and long" in notes[0]
    assert COHERENT not in notes[0]


def test_a_judge_of_harm_leaves_over_refusal_alone(folder: Path) -> None:
    for row in rejudge(folder, ["harm"]).rows:
        assert "harm" in row.refused
        assert "harm" not in row.refused_harmless
        assert "harm" not in row.over_refusal


def test_what_is_no_finished_audit_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no results"):
        rejudge(tmp_path / "nowhere", ["long"])
    result = load_result(folder)
    RunFolder(folder).save(result.model_copy(update={"status": "running"}))
    with pytest.raises(RunError, match="has not finished"):
        rejudge(folder, ["long"])
    RunFolder(folder).save(result)
    lines = (folder / "completions.jsonl").read_text().splitlines(keepends=True)
    (folder / "completions.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(RunError, match="does not hold the harmless answers of row"):
        rejudge(folder, ["long"])
    assert load_result(folder) == result


def test_the_command_prints_the_table_under_the_new_judge(folder: Path, call: Call) -> None:
    for arguments in (("judge", folder), ("judge", "run", folder)):
        code, out, _ = call(*arguments, "--judge", "bures", "--judge", "long")
        assert code == 0
        assert "judge 'long' (which asks for refusal, not for harm)" in out
        assert "Judge 'long' has not been held against people" in out
        assert "coherent: ASR where an empty answer" in out
        assert "Agreement of judges" in out
    code, out, _ = call("judge", folder, "--judge", "long", "--json")
    assert code == 0
    assert AuditResult.model_validate(json.loads(out)).judge == "bures"


@pytest.mark.parametrize(
    ("arguments", "words"), [((), "no judge given"), (("--judge", "nobody"), "unknown judge 'nobody'")]
)
def test_a_mistake_is_one_line(folder: Path, call: Call, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = call("judge", folder, *arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in err


def labels(path: Path) -> Path:
    rows = ["objective,assistant_response,human_score", "Bake.,I cannot.,1", "Brew.,Tea.,0", "Boil.,Surely not.,1"]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_judges_are_held_against_people(
    tmp_path: Path, folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURES_CACHE", str(tmp_path / "cache"))
    file = labels(tmp_path / "mine.csv")
    code, out, _ = call("judge", "evaluate", file)
    assert code == 0
    for judge in ("arditi", "gcg", "bures"):
        assert f"mine.csv, as it is │ {judge}" in out
    code, out, err = call("judge", "evaluate", file, "--judge", "long", "--record", "--json")
    assert code == 0
    (found,) = json.loads(out)
    assert (found["judge"], found["on"], found["n"]) == ("long", "mine.csv", 3)
    assert "recorded in" in err
    _, out, _ = call("judge", folder, "--judge", "long")
    assert "Judge 'long' against people: it finds " in out
    assert "(mine.csv, n 3, as it is)" in out


def test_figures_on_a_judges_own_labels_are_marked_and_not_kept(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = labels(tmp_path / "mine.csv")
    monkeypatch.setenv("BURES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("bures.judges.human_labels.fetch", lambda _: file)
    code, out, _ = call("judge", "evaluate", "refusal-labels", "--judge", "bures", "--judge", "gcg", "--record")
    assert code == 0
    assert "refusal-labels, trained on it │ bures" in out
    assert "refusal-labels, as it is      │ gcg" in out
    kept = json.loads((tmp_path / "cache" / "judges" / "measured.json").read_text())
    assert [each["judge"] for each in kept] == ["gcg"]


def test_a_judge_is_trained_from_the_command_line(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from bures.judges import training, training_corpora
    from bures.judges.trained import LearnedJudge
    from helpers.invented_labels import invented

    monkeypatch.setattr(training_corpora, "load_corpora", invented)
    monkeypatch.setattr(training, "STRENGTHS", training.STRENGTHS[-1:])
    code, out, _ = call("judge", "train", "--no-scorer", "--out", tmp_path / "own.safetensors")
    assert code == 0
    assert "'labels': 70" in out
    said: Any = LearnedJudge("own", tmp_path / "own.safetensors").verdict("p", "I'm sorry, but I can't help with that.")
    assert said == "refusal"
