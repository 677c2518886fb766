"""Exports carry keys, intervals, n, judge and cautions, and nothing in them does more than be read."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from bures import cli
from bures.errors import ConfigError
from bures.report.export import Format, export, inert
from bures.results.formatting import share
from bures.results.schema import RunResult
from helpers.made_results import hostile, made_audit, made_scan, made_search

FORMATS: tuple[Format, ...] = ("csv", "latex", "markdown", "model-card")
CAUTION = "neither jailbreak prompts nor fine-tuning"


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_has_keys_intervals_n_judge_and_cautions(to: Format) -> None:
    result = made_audit()
    text = export(result, to)
    for row in result.rows:
        assert row.key in text
    assert "arditi" in text
    assert "159 harmful" in text
    assert CAUTION in text
    assert "Only 159" not in text
    short = export(made_audit(n_prompts=40, max_new_tokens=16), to)
    for said in ("Only 40 harmful prompts", "cut at 16 tokens"):
        assert len(re.findall(said, short)) == (len(result.rows) if to == "csv" else 1), said
    if to != "csv":
        assert share(result.rows[3].asr["arditi"], unit="") in text


def test_csv_has_the_numbers_of_the_table() -> None:
    result = made_audit()
    found = list(csv.DictReader(io.StringIO(export(result, "csv"))))
    assert [line["row"] for line in found] == [row.key for row in result.rows]
    for line, row in zip(found, result.rows, strict=True):
        asr = row.asr.get("arditi")
        if asr is not None:
            assert asr.interval is not None
            bounds = [float(line[name]) for name in ("asr", "asr_low", "asr_high", "asr_n")]
            assert bounds == [asr.value, *asr.interval, asr.n]


@pytest.mark.parametrize("result", [made_scan(), made_search()], ids=lambda result: result.job)
def test_other_jobs_have_tables_and_no_card(result: RunResult) -> None:
    lines = [line for line in export(result, "markdown").splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(list(csv.reader(io.StringIO(export(result, "csv"))))) == len(lines) - 1
    assert export(result, "latex").count(r"\\") == len(lines) - 1
    with pytest.raises(ConfigError, match="finished audit"):
        export(result, "model-card")


def test_an_unfinished_audit_has_no_card() -> None:
    with pytest.raises(ConfigError, match="finished audit"):
        export(made_audit(status="running"), "model-card")


def test_hostile_names_are_inert_everywhere() -> None:
    result = made_audit(text=hostile())
    for to in FORMATS:
        text = export(result, to)
        assert "\u202e" not in text
        assert "\x1b" not in text
    for to in ("markdown", "model-card"):
        text = export(result, to)
        assert not re.search(r"<(?!/?code>)", text)
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) == 1
    latex = export(result, "latex")
    assert not re.search(r"(?<!\\)[$#]", latex)


@pytest.mark.parametrize("text", ["=cmd()", "+1", "@sum", "-2+3"])
def test_no_cell_is_a_formula(text: str) -> None:
    result = made_audit()
    result.rows[0].label = text
    line = next(csv.DictReader(io.StringIO(export(result, "csv"))))
    assert line["method"] == f"'{text}"


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("79.2 [71.5, 85.3] of 159, by 'bures': RFA (K = 2)!", True),
        ("rfa_mean, blocks 13–16", True),
        ("Only 12 prompts: ±28 points", True),
        *(
            (text, False)
            for text in ("a [b](c)", "[1, 2](x)", "www.x.org", "_a_", "a|b", "<b>", "@you", "x: https://y", "`")
        ),
    ],
)
def test_markdown_that_does_something_is_shown_as_code(text: str, stays: bool) -> None:
    assert (inert(text) == text) is stays
    assert stays or inert(text).startswith("<code>")


def test_the_command_writes_to_stdout_or_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "results.json").write_text(made_audit().to_json(), encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        cli.main(["export", str(run), "--to", "latex"])
    assert end.value.code == 0
    assert capsys.readouterr().out == export(made_audit(), "latex")
    with pytest.raises(SystemExit):
        cli.main(["export", str(run), "--out", str(tmp_path / "table.md")])
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == export(made_audit(), "markdown")
    with pytest.raises(SystemExit) as end:
        cli.main(["export", str(tmp_path / "nothing")])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
