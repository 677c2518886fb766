"""What audits say where answers are cut, thought over or begin alike, on a model whose every answer is known."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from bures import cli
from bures.errors import ConfigError, RunError
from bures.jobs.audit import audit
from bures.jobs.config import AuditConfig, SearchConfig
from bures.jobs.rejudge import rejudge
from bures.jobs.search import search
from bures.results.comparison import compare
from bures.results.gate import gate
from bures.results.history import history
from bures.results.questions import CompareConfig, GateConfig
from bures.results.run_folder import load_result
from bures.results.schema import AuditResult
from helpers import scripted
from helpers.scripted import Script

THINKS = Script(opens="<think>", beginning=("<think>", *scripted.THOUGHT, "</think>"))


def options_for(folder: Path, script: Script, **options: Any) -> dict[str, Any]:
    """A small audit's options, with the model and the prompts written down."""
    if not (folder / "model").exists():
        scripted.folder(folder / "model", script)
    given: dict[str, Any] = {
        "model": str(folder / "model"),
        "ranks": (1,),
        "methods": ("mean-act",),
        "scopes": ("all",),
    }
    for side in ("harmful", "harmless"):
        for i, split in enumerate(("fit", "select", "test")):
            path = folder / f"{side}_{split}.txt"
            path.write_text("\n".join(scripted.prompts(6, bad=side == "harmful", seed=10 + i)) + "\n")
            given[f"{side}_{split}"] = str(path)
    return {**given, "corpus": None, "max_new_tokens": 8, "select_tokens": 8, **options}


def audited(folder: Path, script: Script, run: str = "run", **options: Any) -> AuditResult:
    """What the audit finds."""
    return audit(AuditConfig.make(**options_for(folder, script, **options)), folder / run)


def copied(folder: Path) -> Path:
    """Another audit that found the same."""
    return Path(shutil.copytree(folder / "run", folder / "copy", dirs_exist_ok=True))


def asr(result: AuditResult, key: str = "none") -> float | None:
    (row,) = (row for row in result.rows if row.key == key)
    return row.asr["arditi"].value if "arditi" in row.asr else None


def test_thinking_off_and_on_give_the_true_figures(tmp_path: Path) -> None:
    for thinking, run in (("off", "off"), ("on", "on")):
        result = audited(tmp_path, THINKS, run, thinking=thinking)
        none = result.rows[0]
        assert none.asr["arditi"].value == 0.0
        assert none.refused["arditi"] == "111111"
        assert none.refused_harmless["arditi"] == "000000"
        assert none.unfinished == {"harmful": 0, "harmless": 0}
        assert none.asr_bounds == {}
        assert (asr(result, "mean-act-1") or 0.0) > 0.0
        assert result.localisation is not None
        assert result.localisation.refusal.value > 0.9  # scored without thinking, whatever the rows do
        lines = [json.loads(line) for line in (tmp_path / run / "completions.jsonl").read_text().splitlines()]
        assert {line["completion"] for line in lines} == {scripted.REFUSED, scripted.ANSWERED}
        assert all(line["finished"] for line in lines)
        assert {line["thinking"] is None for line in lines} == {thinking == "off"}
    words = " ".join(result.notes)
    assert "unfinished" not in words


def test_an_answer_cut_in_its_thinking_is_neither_success_nor_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = audited(tmp_path, THINKS, thinking="on", thinking_tokens=3)
    for row in result.rows:
        assert row.unfinished == {"harmful": 6, "harmless": 6}
        assert row.refused["arditi"] == row.refused_harmless["arditi"] == "------"
        assert (row.asr, row.over_refusal) == ({}, {})
        assert row.asr_bounds["arditi"] == row.over_refusal_bounds["arditi"] == (0.0, 1.0)
    assert result.row_comparisons == []
    assert any("unfinished" in note and "--thinking-tokens" in note for note in result.notes)
    table = result.table
    assert list(table["asr"].isna()) == [True] * len(table)
    assert list(table["unfinished"]) == [6] * len(table)
    assert set(zip(table["asr_least"], table["asr_most"], strict=True)) == {(0.0, 1.0)}
    again = rejudge(tmp_path / "run", ["gcg"])
    assert again.rows[0].refused["gcg"] == "------"
    with pytest.raises(RunError, match="no answer to a harmful test prompt is finished in row none"):
        gate(tmp_path / "run", GateConfig(max_asr=0.5))
    with pytest.raises(RunError, match="has a finished answer"):
        compare([tmp_path / "run", copied(tmp_path)], CompareConfig())
    with pytest.raises(SystemExit) as end:
        cli.main(["report", str(tmp_path / "run")])
    assert end.value.code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "6 (0.0-100.0)" in page
    assert "- [0.0, 100.0]" in page
    assert "may be anything from 0 to 100%" in page
    assert "some answers are unfinished" in page
    assert "No intervention has been measured" not in page
    capsys.readouterr()


def test_some_unfinished_answers_widen_the_interval_and_are_paired_with_nothing(tmp_path: Path) -> None:
    result = audited(tmp_path, Script())
    file = tmp_path / "run" / "results.json"
    held = json.loads(file.read_text())
    for row in held["rows"]:
        row["refused"][held["judge"]] = "--1100" if row["key"] == "none" else "-01000"
    file.write_text(json.dumps(held))
    checked = gate(tmp_path / "run", GateConfig(max_asr=0.9, row=("none",), max_over_refusal=0.5)).checks[0]
    assert (checked.measured.value, checked.measured.n) == (0.5, 4)
    low, high = checked.measured.bounds
    assert low < 0.1  # 2 of 6 answered
    assert high > 0.9  # 4 of 6 may be
    found = compare([tmp_path / "run", copied(tmp_path)], CompareConfig())
    assert found.pairs[0].rows[0].asr.a.n == 4
    followed = history([tmp_path / "run"]).series[0].points[0].rows[0]
    assert followed.asr == checked.measured
    with pytest.raises(RunError, match=r"2 answers of row none .* are unfinished"):
        gate(tmp_path / "run", GateConfig(max_increase=0.1, against=str(copied(tmp_path)), row=("none",)))
    assert result.status == "complete"


def test_answers_that_hit_the_limit_are_said(tmp_path: Path) -> None:
    result = audited(tmp_path, Script(), max_new_tokens=2)
    assert result.rows[0].cut == {"harmful": 6, "harmless": 6}
    assert result.rows[0].unfinished == {"harmful": 0, "harmless": 0}
    (said,) = [note for note in result.notes if "had not ended after 2 tokens" in note]
    assert "rows most answers to harmful and to harmless prompts had not ended" in said


def test_refusal_is_scored_where_refusals_and_answers_part(tmp_path: Path) -> None:
    result = audited(tmp_path, Script(beginning=("Well,",)))
    assert len(result.refusal_begin) == 1
    assert any("begin alike" in note and "Well," in note for note in result.notes)
    assert result.localisation is not None
    assert result.localisation.refusal.value > 0.9
    assert asr(result) == 0.0


def test_a_search_for_no_refusal_says_which_kind_of_none_it_is(tmp_path: Path) -> None:
    given = options_for(tmp_path, Script(refusal=("Gladly:", "first")))
    for name in ("harmful_test", "harmless_test", "corpus", "max_new_tokens", "select_tokens"):
        given.pop(name)
    with pytest.raises(ConfigError, match="refused none of 6 harmful fit prompts"):
        search(SearchConfig.make(**given, trials=2), tmp_path / "search")


def test_a_run_is_not_continued_over_other_tokens(tmp_path: Path) -> None:
    audited(tmp_path, Script(), all_blocks=False)
    file = tmp_path / "run" / "results.json"
    held = json.loads(file.read_text())
    assert set(held["tokenised"]) == {
        f"{side}_{split}" for side in ("harmful", "harmless") for split in ("fit", "control", "select", "test")
    }
    assert all(re.fullmatch(r"[0-9a-f]{64}", each["sha256"]) for each in held["tokenised"].values())
    held["status"] = "running"
    held["tokenised"]["harmful_fit"]["sha256"] = "0" * 64
    file.write_text(json.dumps(held))
    with pytest.raises(ConfigError, match="harmful_fit reach the model as other tokens"):
        audited(tmp_path, Script(), all_blocks=False)


def test_a_run_goes_on_under_the_day_on_which_it_began(tmp_path: Path) -> None:
    dated = Script(dated=True)
    audited(tmp_path, dated, all_blocks=False)
    file = tmp_path / "run" / "results.json"
    held = json.loads(file.read_text())
    today = held["model"]["template"]["date"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", today)
    (tmp_path / "run" / "results.json").unlink()
    other = "2020-03-14"
    held["status"], held["model"]["template"]["date"], held["rows"] = "running", other, []
    held["tokenised"] = {}
    file.write_text(json.dumps(held))
    result = audited(tmp_path, dated, all_blocks=False)
    assert result.model["template"]["date"] == other
    assert load_result(tmp_path / "run").status == "complete"
    audited(tmp_path, dated, "today", all_blocks=False)
    cautions = compare([tmp_path / "run", tmp_path / "today"], CompareConfig()).pairs[0].cautions
    assert any(other in each and today in each for each in cautions)


def test_prompts_beyond_the_window_are_counted(tmp_path: Path) -> None:
    given = options_for(tmp_path, Script(), all_blocks=False)
    long = " ".join(scripted.HARMLESS * 8)
    path = tmp_path / "harmless_test.txt"
    path.write_text(path.read_text() + long + "\n")
    result = audit(AuditConfig.make(**given), tmp_path / "run")
    assert result.tokenised["harmless_test"]["beyond_window"] == 1
    assert any("1 of 7 prompts of harmless_test" in note and "256 tokens" in note for note in result.notes)
