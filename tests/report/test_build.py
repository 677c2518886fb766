"""What a page says, without a browser: every sentence and figure is the result's own, and honest about it."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score

from bures import cli
from bures.cli.options import carry_out
from bures.cli.tables import audit_table
from bures.errors import RunError
from bures.judges.known_error import JudgeError, record
from bures.report.build import page_of, write_report
from bures.report.kit import bundle
from bures.report.kit.page import Cell, Figure, Legend, Page, Section, Table, as_json_in_html, figures_of, render
from bures.report.kit.text import clean, named
from bures.report.pages.audit import audit_page, best_row, cautions, finding
from bures.report.sections.categories import shares_by_category
from bures.report.sections.judging import agreement
from bures.report.sections.plane import ellipse
from bures.report.sections.profile import unscanned
from bures.report.sections.provenance import limits
from bures.report.sections.tradeoff import front
from bures.results.formatting import share
from bures.results.records import BlockRange, Gaussian
from bures.results.run_folder import RunFolder
from bures.results.schema import AuditResult, Row
from bures.results.stats import Measurement, proportion
from helpers.interpreter import imported_by
from helpers.made_results import HOSTILE, made_audit, made_scan, made_search


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, and a chart library that takes no time to make."""
    monkeypatch.setenv("BURES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bundle, "_made", lambda: "window.vegaEmbed = null;")
    bundle.vega_bundle.cache_clear()
    yield tmp_path / "cache"
    bundle.vega_bundle.cache_clear()


def folder_of(result: Any, path: Path) -> Path:
    """A run folder."""
    path.mkdir(parents=True, exist_ok=True)
    RunFolder(path).results.write_text(result.to_json())
    return path


def small(**changes: Any) -> AuditResult:
    """A small audit."""
    return made_audit(n_blocks=4, n_prompts=40, **changes)


# The page -------------------------------------------------------------------------------------------------------------


def test_importing_the_reports_imports_neither_torch_nor_pandas() -> None:
    found = imported_by("import bures.report.build, bures.report.kit.page")
    assert not found & {"torch", "transformers", "pandas", "datasets", "typer"}


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_escaped_wherever_it_stands(cache: Path, text: str) -> None:
    spec = {"data": {"values": [{"x": text}]}}
    figure = Figure("f", text, spec, text, Table((text,), ((text,),), text), text, Legend("shown", (), text))
    table = Table((text, "n"), ((Cell(text, tone="bad"), "1"),), text)
    source = render(Page(text, text, (Section("s", text, (text, figure, table)),), text, text, (), (text,)))
    assert source.count("<script") == 3
    assert not re.search(r"<(img|b)\b|onerror=[^a]|\{\{", source.replace("{{7*7}}{{1337*7331}}", ""))
    assert not any(c in source for c in "\x00\x07\x1b\u202e\u2028\ud800")
    assert len(source) < 150_000
    found = re.search(r'id="data">(.*?)</script>', source, re.DOTALL)
    assert found is not None
    held = json.loads(found[1])
    assert held["specs"]["f"]["data"]["values"] == [{"x": clean(text)}]


def test_two_figures_of_one_name_and_numbers_that_are_none_are_refused(cache: Path) -> None:
    one = Section("s", "s", (Figure("f", "f", {}, "f"),))
    with pytest.raises(ValueError, match="unique"):
        render(Page("t", "v", (one, Section("r", "r", one.blocks)), ""))
    with pytest.raises(ValueError, match="JSON compliant"):
        as_json_in_html(math.inf)
    with pytest.raises(ValueError, match="needs 2 cells"):
        Table(("a", "b"), (("1",),))


def test_columns_of_numbers_are_told_from_columns_of_words() -> None:
    rows = (
        ("79.2 [71.5, 85.3]", "RFA", "<0.001", "-", "1.23!"),
        ("-", "2 blocks", "0.02", "-", Cell("failed", None, "bad")),
    )
    assert Table(("a", "b", "c", "d", "e"), rows).numeric == (True, False, True, False, True)


def test_names_are_isolated_and_cut() -> None:
    assert named("plain") == "plain"
    assert named("a\nb\tc") == "a\\nb\\tc"
    assert named("\u05d0") == "\u2068\u05d0\u2069"
    assert named("x" * 500, 100) == "\u2068" + "x" * 100 + "… (400 more characters)\u2069"
    assert clean("a\u00a0b\x00") == "a\u00a0b\\x00"


def test_the_library_is_made_once_and_a_cache_that_cannot_be_written_is_no_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert bundle.vega_bundle() == "window.vegaEmbed = null;"
    (kept,) = (cache / "report").iterdir()
    kept.write_text("kept")
    bundle.vega_bundle.cache_clear()
    assert bundle.vega_bundle() == "kept"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BURES_CACHE", str(tmp_path / "file"))
    bundle.vega_bundle.cache_clear()
    assert bundle.vega_bundle() == "window.vegaEmbed = null;"


# What it says ---------------------------------------------------------------------------------------------------------


def test_the_finding_holds_the_figures_of_the_row_that_was_best_on_other_prompts() -> None:
    result = small()
    best, original = best_row(result), result.rows[0]
    assert best is not None
    tried = {row.key: row.selection for row in result.rows if row.within_budget and row.selection is not None}
    values = {key: trial.asr.value for key, trial in tried.items() if trial.asr is not None}
    assert values[best.key] == max(values.values())
    asr, before = best.asr["arditi"], original.asr["arditi"]
    said = finding(result)
    assert f"answers {100 * asr.value:.1f}".removesuffix(".0") in said
    assert f"of {asr.n} harmful prompts" in said
    assert f"against {100 * before.value:.1f}".removesuffix(".0") in said
    assert "judge 'arditi' (refusal phrases)" in said
    assert f"({best.label}" in said
    assert "within the perplexity budget" in said
    assert "Refusal is decided at blocks 0–2 of 4." in said


def test_a_part_that_was_scanned_is_no_network() -> None:
    result = small()
    assert result.localisation is not None
    whole = result.localisation
    part = replace(whole, n_blocks=40, first=0, last=1)
    result.localisation = part
    assert "decided at blocks 0–1 of 40 (blocks 0–3 of 40 were scanned)." in finding(result)
    assert any(said.startswith("Only blocks 0–3 of 40 were scanned") for said in cautions(result))
    result.localisation = replace(part, last=3)
    assert "were scanned, it may end behind)." in finding(result)
    result.localisation = replace(part, first=None, last=None, first_range=BlockRange(0, 1))
    assert "Where refusal is decided is not shown by blocks 0–3 of 40, which alone were scanned." in finding(result)
    tiles = {each.label: each for each in audit_page(result).key_figures}
    assert tiles["blocks where refusal is decided"].value == "not shown"
    (figure,) = [each for each in figures_of(audit_page(result)) if each.id == "causal"]
    assert figure.legend is not None
    assert "unseen" in [key.value for key in figure.legend.keys]
    spans = [
        layer["data"]["values"] for layer in figure.spec["layer"] if "unseen" in json.dumps(layer.get("transform"))
    ]
    assert spans == [[{"x": 11.25, "x2": 101.25}]]
    assert unscanned(6, {1, 4}) == [(0, 0), (2, 3), (5, 5)]
    assert unscanned(2, {0, 1}) == []


def test_the_head_says_what_a_page_is_of_and_words_are_linked() -> None:
    result = small(finished="2026-11-30T16:49:03+00:00")
    result.model["fingerprint"] = "0123456789abcdef"
    page = audit_page(result)
    said = " | ".join(page.about)
    assert said.startswith("2026-11-30 16:49 UTC | ")
    for part in ("weights 0123456789ab", "prompts ", f"bures {result.versions['bures']}"):
        assert part in said
    assert audit_page(small(finished=None)).about[0] == "not finished"
    assert [section.title for section in page.sections][-1] == "Words used here"


def test_where_the_time_went_is_told_where_the_results_say() -> None:
    result = small(seconds={"loading": 1.5, "scanning": 4.5})
    text = render(audit_page(result))
    assert "Where the time went" in text
    assert [cells in text for cells in ("<td class=number>4.5", "<td class=number>75", "<td class=number>6.0")] == [
        True
    ] * 3
    assert "Where the time went" not in render(audit_page(small()))


def test_the_finding_admits_what_it_cannot_say() -> None:
    result = small()
    for row in result.rows:
        row.within_budget = None if row.method == "none" else False
    assert "none being within the budget" in finding(result)
    alone = small(rows=small().rows[:1], row_comparisons=[])
    assert "no intervention has been measured" in finding(alone)
    empty = small(rows=[], row_comparisons=[], localisation=None, status="running")
    assert finding(empty) == "No intervention has been measured."
    assert any("not finished" in said for said in audit_page(empty).cautions)
    undecided = small()
    for pair in undecided.row_comparisons:
        pair.p, pair.p_adjusted = 0.01, 0.4
    assert "may be chance (McNemar, adjusted p = 0.400)" in finding(undecided)
    for pair in undecided.row_comparisons:  # as results of bures 0.1 have it
        pair.p, pair.p_adjusted = 0.4, None
    assert "may be chance (McNemar p = 0.400)" in finding(undecided)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "running"}, "has not finished"),
        ({"corpus": None}, "no corpus"),
        ({"max_new_tokens": 16}, "cut at 16 tokens"),
        ({"categories": False}, "no categories"),
        ({"localisation": None}, "where in the network"),
        ({"refusal_tokens": []}, "No refusal token"),
        ({}, "Only 40 harmful prompts: around 50% the interval is ±15 points"),
        ({}, "1 of 13 rows failed"),
    ],
)
def test_what_was_not_measured_is_said(changes: dict[str, Any], said: str) -> None:
    assert any(said in line for line in limits(small(**changes)))


def test_capability_stands_in_a_table_where_it_was_measured_and_is_missed_where_not() -> None:
    result = small()
    (section,) = [each for each in page_of(result).sections if each.id == "abilities"]
    table = section.blocks[-1]
    assert isinstance(table, Table)
    measured = result.rows[1].capability["arc_easy"]
    assert str(table.rows[1][2]).startswith(f"{100 * measured.value:.1f} [")
    assert table.header[2:] == ("arc_easy %", "length")
    assert not any("no benchmark" in line for line in limits(result))
    for row in result.rows:
        row.capability, row.metrics = {}, {}
    assert any("no benchmark" in line for line in limits(result))
    assert "abilities" not in {each.id for each in page_of(result).sections}


def test_what_was_measured_is_not_said_to_be_missing() -> None:
    said = " ".join(limits(made_audit(n_blocks=4, n_prompts=159)))
    for words in ("no corpus", "were cut", "no categories", "around 50%", "has not finished", "upper bound"):
        assert words not in said
    phrases = made_audit(n_blocks=4)
    for row in phrases.rows:
        row.asr.pop("classifier", None)
    assert any("upper bound" in line for line in limits(phrases))


@pytest.mark.parametrize("result", [small(), made_scan(4), made_search(12)], ids=["audit", "scan", "search"])
def test_every_figure_has_words_and_its_data_in_a_table(result: Any) -> None:
    page = page_of(result)
    figures = list(figures_of(page))
    assert figures
    for figure in figures:
        assert len(figure.text_alternative) > 40
        assert figure.table is not None or figure.id.startswith("search-")
    assert {"limits", "provenance"} <= {section.id for section in page.sections}


def test_unfinished_and_meagre_results_have_pages(cache: Path) -> None:
    nothing = {"scan": [], "localisation": None, "notes": []}
    for result in (
        small(rows=[], row_comparisons=[], trials=[], tested={}, **nothing),
        small(rows=small().rows[:2], row_comparisons=[]),
        made_scan(4, **nothing),
        made_scan(4, status="running", localisation=None),
        made_search(12, trials=[], front=[], recommended=None, status="running"),
        made_search(12, front=[], recommended=None),
    ):
        assert "</html>" in render(page_of(result))


# Figures computed here ------------------------------------------------------------------------------------------------


def test_the_front_is_what_no_other_beats() -> None:
    dice = random.Random(0)
    for _ in range(50):
        points = [(float(dice.randrange(6)), float(dice.randrange(6))) for _ in range(8)]
        best = front(points)
        for i, (cost, gain) in enumerate(points):
            beaten = any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)
            assert (i in best) is not beaten
        assert all(points[a] <= points[b] for a, b in pairwise(best))


def test_an_ellipse_lies_at_its_number_of_deviations() -> None:
    xx, xy, yy = 2.0, 0.7, 0.5
    determinant = xx * yy - xy * xy
    for deviations in (1, 2):
        for x, y in ellipse(Gaussian((3.0, -1.0), (xx, xy, yy)), deviations):
            u, v = x - 3.0, y + 1.0
            squared = (yy * u * u - 2 * xy * u * v + xx * v * v) / determinant
            assert squared == pytest.approx(deviations**2)
    flat = ellipse(Gaussian((0.0, 0.0), (1.0, 1.0, 1.0)), 2)  # all on the diagonal
    assert all(x == pytest.approx(y, abs=1e-6) for x, y in flat)
    assert max(x for x, _ in flat) == pytest.approx(2.0)


def test_agreement_is_cohens() -> None:
    a, b = "1101001110", "1001011100"
    agreed, kappa = agreement(a, b)
    assert agreed == pytest.approx(0.7)
    assert kappa == pytest.approx(cohen_kappa_score(list(a), list(b)))
    assert agreement("000", "000") == (1.0, None)
    with pytest.raises(ValueError, match="as many"):
        agreement("01", "0")


def test_categories_hold_their_own_prompts() -> None:
    found = shares_by_category("100101", ["a", "b", "b", None, "b", "a"])
    assert found == {"b": proportion(3, 3), "a": proportion(0, 2), "without a category": proportion(0, 1)}
    assert [*found] == ["b", "a", "without a category"]


def test_categories_are_counted_in_full_and_drawn_as_far_as_there_is_room() -> None:
    result = small()
    result.tested["harmful"].categories = [f"kind {i}" for i in range(40)]
    result.tested["harmful"].categories[0] = "kind 1"
    (figure,) = [f for f in figures_of(page_of(result)) if f.id == "by-category"]
    assert figure.table is not None
    assert len(figure.table.rows) == 39
    assert sum(int(str(row[1])) for row in figure.table.rows) == 40


def section(result: Any, title: str) -> Section | None:
    return next((each for each in page_of(result).sections if each.title == title), None)


KINDS = "Refusals of harmless prompts, by kind"


def test_refusals_of_harmless_prompts_stand_by_their_kind_where_the_file_has_kinds() -> None:
    result = small()
    assert section(result, KINDS) is None
    marks = result.rows[0].refused_harmless[result.judge]
    kinds = ["homonyms" if i % 3 else "safe targets" for i in range(len(marks))]
    result.tested["harmless"].categories = list(kinds)
    assert section(result, KINDS) is not None
    (figure,) = [f for f in figures_of(page_of(result)) if f.id == "by-kind"]
    assert figure.table is not None
    refused = [mark == "1" for mark, kind in zip(marks, kinds, strict=True) if kind == "homonyms"]
    told = share(proportion(sum(refused), len(refused)), unit="")
    assert figure.table.rows[0][:3] == ("homonyms", str(len(refused)), told)
    assert figure.table.caption == "over-refusal % [95%]."
    assert not any("ASR" in str(value["tip"]) for value in figure.spec["data"]["values"])


RANGE = "What the judge's error may make of it"


def test_the_range_over_the_measured_errors_of_the_judge_stands_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recall 0.5 and specificity 0.9 on one set; on another an error that this run cannot have."""
    monkeypatch.setenv("BURES_CACHE", str(tmp_path))
    result = small()
    for row in result.rows:
        row.asr = {"new": Measurement(0.6, 40, (0.4, 0.8))} if row.error is None else {}
        row.refused, row.refused_harmless = {"new": "1" * 16 + "0" * 24}, {}
    result.judge = "new"
    assert section(result, RANGE) is None
    half, all_ = Measurement(0.5, 100), Measurement(1.0, 100)
    record(
        [
            JudgeError("new", "some answers", "as it is", 200, Measurement(5 / 6, 60), half, None, half),
            JudgeError("new", "short answers", "as it is", 200, Measurement(0.5, 200), all_, None, half),
            JudgeError("new", "other answers", "as it is", 200, Measurement(1 / 1.6, 160), all_, None, half),
        ]
    )
    found = section(result, RANGE)
    assert found is not None
    (table,) = [block for block in found.blocks if isinstance(block, Table)]
    assert [row[0] for row in table.rows] == ["as the judge says", "some answers", "other answers"]  # no chance level
    assert table.rows[0][-1] == "60.0"
    assert table.rows[1][1:] == ("as it is", "200", "50", "90", "25.0", "25.0")  # 1 - (0.4 - 0.1) / (0.5 + 0.9 - 1)
    cell = table.rows[2][-1]
    assert isinstance(cell, Cell)
    assert cell.text == "impossible (150.0)"  # 1 - (0.4 - 0.6) / (1 + 0.4 - 1)
    said = render(page_of(result))
    assert "would be 25% (error as on some answers), and cannot have the error of other answers" in said


# The command ----------------------------------------------------------------------------------------------------------


def run(*arguments: object) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(a) for a in arguments])
    return int(end.value.code or 0)


def test_the_command_writes_the_page(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = folder_of(made_search(6), tmp_path / "run")
    assert run("report", kept) == 0
    assert (kept / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "report.html" in capsys.readouterr().err
    assert run("report", kept, "--out", tmp_path / "elsewhere.html") == 0
    assert (tmp_path / "elsewhere.html").exists()
    assert run("report", kept, "--show-completions", "1") == 0
    assert (kept / "report-with-completions.html").exists()
    assert sorted(p.name for p in kept.iterdir()) == ["report-with-completions.html", "report.html", "results.json"]


def test_mistakes_are_one_line(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", tmp_path / "nowhere") == 2
    assert capsys.readouterr().err.startswith("bures: no results.json in ")
    kept = folder_of(made_search(6), tmp_path / "run")
    assert run("report", kept, "--out", tmp_path / "no" / "folder.html") == 2
    printed = capsys.readouterr().err
    assert "cannot write" in printed
    assert printed.count("\n") == 1
    assert run("report", kept, "--show-completions", "-1") == 2


def test_a_page_is_written_whole_or_not_at_all(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = folder_of(made_search(6), tmp_path / "run")
    write_report(kept)
    before = (kept / "report.html").read_text()

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match="No space left"):
        write_report(kept)
    assert (kept / "report.html").read_text() == before
    assert sorted(p.name for p in kept.iterdir()) == ["report.html", "results.json"]


@pytest.mark.parametrize("as_json", [False, True])
def test_every_finished_run_has_its_page(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    result = small()

    def job(settings: Any, target: Path, progress: Any) -> AuditResult:
        folder_of(result, target)
        return result

    carry_out(job, None, tmp_path / "run", as_json=as_json, table=audit_table)
    assert (tmp_path / "run" / "report.html").exists()
    printed = capsys.readouterr()
    if as_json:
        assert printed.out == result.to_json() + "\n"
        assert "report" not in printed.err
    else:
        assert "report:" in printed.err.replace("\n", "")


def test_a_row_that_failed_stands_in_the_table_and_is_not_drawn() -> None:
    result = small()
    page = page_of(result)
    table = next(block for block in page.sections[0].blocks if isinstance(block, Table))
    assert len(table.rows) == len(result.rows)
    assert Cell("failed", tone="bad") in table.rows[-1]
    whiskers = next(f for f in figures_of(page) if f.id == "intervals")
    drawn = {value["name"].split("\n")[0] for value in whiskers.spec["data"]["values"]}
    assert not any("failing" in name for name in drawn)
    failed: Row = result.rows[-1]
    assert any(str(failed.error) in str(block) for block in page.sections[0].blocks)
