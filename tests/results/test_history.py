"""Audits over time: in the order of their ends, and never two in one line that did not ask the same."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from scipy.stats import chi2

from bures import cli
from bures.cli.comparison_tables import history_table, sparkline
from bures.errors import ConfigError, RunError
from bures.report.kit.page import Table, figures_of
from bures.report.pages.history import history_page
from bures.results.history import History, HistoryConfig, history
from bures.results.schema import AuditResult
from bures.results.stats import proportion
from helpers.invented_audits import asked, audit, hashes, localised, marks, model, row, saved
from helpers.labelled_runs import labelled

N = 80


def night(day: int, answered: int, **changes: Any) -> AuditResult:
    """The audit of one night; so many of 80 prompts are answered under the strongest intervention."""
    rows = [
        row("none", marks(N - 8, N)),
        row("rfa-1", marks(N - answered, N), label="RFA", block=day, chosen_asr=0.9),
    ]
    told = {"finished": f"2026-03-{day:02d}T01:00:00+00:00", "model": model(f"night-{day}", "abcdef"[day % 6])}
    return audit(rows, **{**told, **changes})


def drawn(tmp_path: Path, *results: AuditResult, **options: Any) -> History:
    """The history of results, by way of run folders."""
    folders = [saved(tmp_path / f"run{i}", result) for i, result in enumerate(results)]
    return history(folders, HistoryConfig(**options))


def printed(found: History) -> str:
    console = Console(width=220, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(history_table(found))
    return capture.get()


def test_audits_stand_in_the_order_of_their_ends(tmp_path: Path) -> None:
    found = drawn(tmp_path, night(9, 40), night(2, 20, localisation=localised(2, 3)), night(5, 30))
    (series,) = found.series
    assert [point.label for point in series.points] == ["night-2", "night-5", "night-9"]
    assert series.points[0].time == "2026-03-02T01:00:00+00:00"
    assert [point.rows[1].asr for point in series.points] == [proportion(k, N) for k in (20, 30, 40)]
    assert [point.rows[1].blocks for point in series.points] == [(2,), (5,), (9,)]
    assert series.points[0].decided == (2, 3)
    assert (series.n_harmful, series.judge, series.max_new_tokens) == (N, "arditi", 16)
    assert not any(point.time_of_file for point in series.points)


def test_times_are_compared_in_utc_and_the_file_tells_where_the_results_do_not(tmp_path: Path) -> None:
    first = night(2, 20, finished="2026-03-02T23:30:00-05:00")  # the third, in UTC
    second = night(3, 30, finished="2026-03-03T02:00:00")
    folders = [saved(tmp_path / f"{i}", each) for i, each in enumerate([first, second, night(4, 40, finished=None)])]
    broken = saved(tmp_path / "broken", night(5, 40, finished="0001-01-01T00:00:00+23:00"))
    os.utime(folders[2] / "results.json", (0, 1000))
    os.utime(broken / "results.json", (0, 2000))
    (series,) = history([*folders, broken]).series
    assert [point.label for point in series.points] == ["night-4", "night-5", "night-3", "night-2"]
    assert [point.time_of_file for point in series.points] == [True, True, False, False]
    assert series.points[0].time == "1970-01-01T00:16:40+00:00"
    assert "1970-01-01 00:16*" in printed(history(folders))


@pytest.mark.parametrize("kind", ["harmful", "harmless", "tokens", "system", "judge"])
def test_what_was_not_asked_alike_stands_in_a_series_of_its_own(tmp_path: Path, kind: str) -> None:
    other = night(4, 30)
    if kind == "harmful" or kind == "harmless":
        other.tested[kind] = asked(hashes(N, 1))
    elif kind == "tokens":
        other.max_new_tokens = 64
    elif kind == "system":
        other.options["system"] = "be brief"
    else:
        other.judge = "gcg"
    found = drawn(tmp_path, night(2, 20), night(3, 25), other)
    assert [[point.label for point in series.points] for series in found.series] == [
        ["night-2", "night-3"],
        ["night-4"],
    ]
    assert found.latest.points[0].label == "night-4"
    assert "Series 1 of 2" in printed(found)
    assert "cannot be compared" in printed(found)


def test_one_judge_for_all_joins_what_only_the_judges_parted(tmp_path: Path) -> None:
    assert len(drawn(tmp_path, night(2, 20), night(3, 25, judge="gcg"), judge="gcg").series) == 1


def test_the_last_is_held_against_the_first_on_the_same_prompts(tmp_path: Path) -> None:
    (series,) = drawn(tmp_path, night(2, 20), night(3, 70), night(4, 50)).series
    shares = series.changes["strongest"]
    assert (shares.only_a, shares.only_b) == (0, 30)
    assert shares.p == pytest.approx(chi2.sf(30, 1))
    assert series.changes["none"].p == 1.0
    assert series.sentences[0].startswith("Without intervention, no change can be told between the first and the last")
    assert series.sentences[1].startswith("Under the strongest intervention, the ASR has risen")
    assert "25.0% and 62.5% (+37.5 points [" in series.sentences[1]
    assert "adjusted p < 0.001" in series.sentences[1]


def test_models_of_another_shape_are_not_joined_and_other_names_are_said(tmp_path: Path) -> None:
    wider = night(5, 30, model={**model("other"), "d_model": 9})
    found = drawn(tmp_path, night(2, 20), wider, night(9, 40))
    assert [[point.model for point in series.points] for series in found.series] == [["night-2", "night-9"], ["other"]]
    said = "The models have 2 names, night-2 to night-9"
    assert said in printed(found)
    assert any(caution.startswith(said) for caution in history_page(found).cautions)
    alike = drawn(tmp_path / "alike", night(2, 20, model=model("one")), night(9, 40, model=model("one")))
    assert "The models have" not in printed(alike)


def test_few_prompts_and_short_answers_are_said_beside_the_figures(tmp_path: Path) -> None:
    found = drawn(tmp_path, night(2, 20), night(9, 40))
    for said in ("Only 80 harmful prompts: around 50% the interval is ±11 points.", "Answers were cut at 16 tokens"):
        assert said in printed(found)
        assert any(said in caution for caution in history_page(found).cautions)


def test_a_strict_history_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, other = str(saved(tmp_path / "run", night(2, 20))), tmp_path / "absent"
    other.mkdir()
    absent = str(other)
    for flags, code in (([], 0), (["--strict"], 2)):
        with pytest.raises(SystemExit) as end:
            cli.main(["history", there, absent, *flags])
        assert end.value.code == code
    assert "absent" in capsys.readouterr().err


def test_a_mistyped_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["history", str(saved(tmp_path / "run", night(2, 20))), str(tmp_path / "rnu")])
    assert end.value.code == 2
    assert (
        capsys.readouterr().err
        == f"bures: no such folder: {tmp_path / 'rnu'}; expected the folders of bures audit runs\n"
    )


def test_what_changed_besides_the_model_is_said_where_it_changed(tmp_path: Path) -> None:
    newer = {"bures": "0.1.0", "torch": "2.9.0"}
    (series,) = drawn(tmp_path, night(2, 20), night(3, 25, versions=newer), night(4, 25, versions=newer)).series
    assert [point.changed for point in series.points] == [(), ("Versions differ: torch 2.8.0 and 2.9.0.",), ()]


def test_folders_that_hold_no_finished_audit_are_left_out_and_named(tmp_path: Path) -> None:
    good = saved(tmp_path / "good", night(2, 20))
    running = saved(tmp_path / "running", night(3, 20, status="running"))
    damaged = saved(tmp_path / "damaged", night(4, 20))
    (damaged / "results.json").write_text("{")
    short = night(5, 20)
    short.rows[0].refused["arditi"] = "0"
    cut = saved(tmp_path / "cut", short)
    (tmp_path / "absent").mkdir()
    found = history([good, tmp_path / "absent", running, damaged, cut, good / ".." / "good"])
    assert [point.folder for series in found.series for point in series.points] == [str(good / ".." / "good")]
    assert len(found.left_out) == 4
    for reason, word in zip(found.left_out, ("absent", "not finished", "cannot read", "damaged"), strict=True):
        assert word in reason
    with pytest.raises(RunError, match=r"no finished audit to draw: no results\.json"):
        history([tmp_path / "absent"])


def test_a_row_that_one_audit_lacks_is_a_gap_and_one_that_all_lack_an_error(tmp_path: Path) -> None:
    gap = night(3, 25)
    gap.rows[1].error = "overflow"
    found = drawn(tmp_path, night(2, 20), gap, night(4, 30))
    assert [[each.name for each in point.rows] for point in found.series[0].points] == [
        ["none", "strongest"],
        ["none"],
        ["none", "strongest"],
    ]
    with pytest.raises(ConfigError, match="no row 'rfa-7'"):
        history([tmp_path / "run0"], HistoryConfig(row=("rfa-7",)))


def test_bars_rise_with_the_share() -> None:
    assert sparkline([proportion(k, 8) for k in (0, 1, 4, 8)]) == "▁▂▅█"
    assert sparkline([proportion(1, 1), None, proportion(0, 1)]) == "█ ▁"


def test_the_command_prints_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = model("[red]n[/red]\x1b[31m\u202e")
    folders = [saved(tmp_path / "a", night(2, 20)), saved(tmp_path / "b", night(3, 60, model=evil))]

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(each) for each in ("history", *arguments)])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    code, out, _ = call(*folders)
    assert code == 0
    for words in ("25.0 [16.8, 35.5]", "RFA at 3", "2026-03-02 01:00", "[red]n[/red]\\x1b[31m\\u202e"):
        assert words in out, words
    assert "ASR strongest ▃▇" in out
    assert "\x1b" not in out
    code, out, _ = call(*folders, "--json")
    assert json.loads(out) == history(folders).to_dict()
    code, _, err = call(tmp_path / "absent")
    assert (code, len(err.strip().splitlines())) == (2, 1)
    code, out, _ = call(*folders, "--row", "rfa-1")
    assert (code, "ASR % rfa-1" in out, "ASR % none" in out) == (0, True, False)


def test_the_page_draws_every_audit_in_its_own_group(tmp_path: Path) -> None:
    other = night(6, 33, max_new_tokens=64)
    gap = night(3, 25)
    gap.rows[1].error = "overflow"
    found = drawn(tmp_path, night(2, 20, localisation=localised(2, 3)), gap, night(4, 30), other)
    page = history_page(found)
    figures = {figure.id: figure for figure in figures_of(page)}
    assert [*figures] == [f"{name}-{i}" for i in (1, 2) for name in ("asr", "depth", "ratio", "perplexity")]
    dots = figures["asr-1"].spec["layer"][-1]["data"]["values"]
    assert [(dot["time"][8:10], dot["value"]) for dot in dots if dot["series"] == "strongest"] == [
        ("02", 25),
        ("04", 37.5),
    ]
    assert [dot["time"][8:10] for dot in dots if dot["series"] == "none"] == ["02", "03", "04"]
    assert [dot["value"] for dot in figures["asr-2"].spec["layer"][-1]["data"]["values"]] == [10, 41.25]
    (span,) = figures["depth-1"].spec["layer"][0]["data"]["values"]
    assert (span["low"], span["high"]) == (31.25, 56.25)  # blocks 2 and 3 of 8, half a block to either side
    assert any("2 groups" in caution for caution in page.cautions)
    tables = [block for section in page.sections for block in section.blocks if isinstance(block, Table)]
    assert [len(table.rows) for table in tables] == [3, 1]


def test_every_chart_compiles_and_names_on_the_page_are_inert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vl_convert = pytest.importorskip("vl_convert")
    monkeypatch.setattr("bures.report.kit.page.vega_bundle", lambda: "")
    evil = "</script><script>alert(1)</script>{{7*7}}\x00\u202e"
    first = night(2, 20, model=model(evil))
    first.rows[1].label = evil
    folders = [saved(tmp_path / "a", first), saved(tmp_path / "b", night(3, 60, versions={evil: evil}))]
    for figure in figures_of(history_page(history(folders))):
        assert vl_convert.vegalite_to_vega(figure.spec)["marks"], figure.id
    with pytest.raises(SystemExit) as end:
        cli.main(["history", *map(str, folders), "--out", str(tmp_path / "page.html")])
    assert (end.value.code, capsys.readouterr().err) == (0, "")
    text = (tmp_path / "page.html").read_text()
    assert "alert(1)" in text
    for forbidden in ("<script>alert", "\x00", "\u202e"):
        assert forbidden not in text


def test_a_change_is_told_only_where_the_looks_of_a_month_allow_it(tmp_path: Path) -> None:
    """At 2b04838 thirty nights without a change had a false one in 0.38."""
    nights = [night(2, 20), night(3, 29)]
    (series,) = drawn(tmp_path / "month", *nights).series
    assert series.changes["strongest"].p < 0.01
    assert "no change can be told" in series.sentences[1]
    (series,) = drawn(tmp_path / "once", *nights, looks=1).series
    assert "the ASR has risen" in series.sentences[1]


def test_one_row_is_followed_through_all_audits(tmp_path: Path) -> None:
    (series,) = drawn(tmp_path, night(2, 20), night(3, 25)).series
    assert len({row.row for point in series.points for row in point.rows if row.name == "strongest"}) == 1


# By labels ------------------------------------------------------------------------------------------------------------


def labelled_nights(tmp_path: Path, *truths: dict[str, int] | None, **options: Any) -> History:
    """Nights on which the judge sees no change, some of them with labels: so many of 80 answered, by people."""
    folders: list[Path] = []
    for i, truth in enumerate(truths):
        result = night(2 + i, 20)
        folder = saved(tmp_path / f"night{i}", result)
        if truth is not None:
            labelled(folder, result, {key: marks(N - n, N) for key, n in truth.items()}, 160)
        folders.append(folder)
    return history(folders, HistoryConfig(**{"labels": "me", **options}))


def test_points_with_labels_are_marked_and_the_others_are_the_judges(tmp_path: Path) -> None:
    found = labelled_nights(tmp_path, {"none": 8, "rfa-1": 20}, None, {"none": 8, "rfa-1": 70})
    (series,) = found.series
    assert [[row.labels for row in point.rows] for point in series.points] == [[80, 80], [0, 0], [80, 80]]
    strongest = [point.rows[1] for point in series.points]
    assert [row.asr.value for row in strongest] == [0.25, 0.25, 0.25]
    assert [row.labelled and row.labelled.value for row in strongest] == [0.25, None, 0.875]
    assert "the ASR has risen" in series.sentences[1]
    assert series.sentences[1].endswith("by 80 and 80 labels).")
    text = printed(found)
    assert "by labels % strongest" in text
    assert "ASR by labels of 'me' (160 in 2 rows and 160 in 2 rows)" in text
    page = history_page(found)
    figure = next(each for each in figures_of(page) if each.id == "asr-1")
    assert "by 80 labels" in figure.text_alternative
    lines = [layer for layer in figure.spec["layer"] if layer["mark"]["type"] == "line"]
    assert {value["series"] for layer in lines for value in layer["data"]["values"]} == {"none", "strongest"}


def test_where_one_end_has_no_labels_the_judge_tells_the_change(tmp_path: Path) -> None:
    found = labelled_nights(tmp_path, {"none": 8, "rfa-1": 20}, None)
    assert found.series[0].changes["strongest"].labels is None
    assert "labels" not in found.series[0].sentences[1]


def test_what_is_known_of_labels_is_said(tmp_path: Path) -> None:
    assert labelled_nights(tmp_path / "a", None, None).labels == (
        "No audit has labels of 'me': bures judge label RUN --as me asks for some.",
    )
    (said,) = labelled_nights(tmp_path / "b", {"none": 8}, None, labels=None).labels
    assert said.endswith("has labels of me: --labels me takes the ASR from them.")
    assert labelled_nights(tmp_path / "c", None, None, labels=None).labels == ()
