"""What a notebook shows: figures and pages, never a prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bures
from bures.errors import ConfigError, RunError
from bures.results.schema import RunResult
from helpers.made_results import hostile, made_audit, made_scan, made_search


def test_a_report_shows_itself_in_a_frame_without_access() -> None:
    report = bures.Report(made_audit())
    shown = report._repr_html_()
    assert shown.startswith('<iframe sandbox="allow-scripts" srcdoc="&lt;!')
    assert "<script" not in shown
    assert report.html.lower().startswith("<!doctype html>")


def test_a_report_of_a_folder_and_to_a_file(tmp_path: Path) -> None:
    result = made_audit()
    (tmp_path / "results.json").write_text(result.to_json(), encoding="utf-8")
    report = bures.Report(tmp_path)
    assert report.result == result
    assert report.save(tmp_path / "page.html").read_text(encoding="utf-8") == report.html
    with pytest.raises(RunError, match=r"no results\.json"):
        bures.Report(tmp_path / "nothing")


@pytest.mark.parametrize("result", [made_audit(), made_scan(), made_search()], ids=lambda result: result.job)
def test_a_result_is_one_line_and_a_table(result: RunResult) -> None:
    assert len(repr(result)) < 100
    assert str(result) == repr(result)
    assert "\n" not in repr(result)
    assert repr(result).startswith(f"{type(result).__name__}(Made-7B, complete, ")
    table = result._repr_html_()  # pyright: ignore[reportAttributeAccessIssue] - every kind has one of its own
    assert table.startswith("<table><caption>Made-7B: ")
    assert table.count("<tr>") > 3


def test_what_a_notebook_shows_of_hostile_text_is_text() -> None:
    for result in (made_audit(text=hostile()), made_scan(text=hostile()), made_search(text=hostile())):
        table = result._repr_html_()
        for text in ("<script", "<img", "<b>", "\u202e"):
            assert text not in table
        assert "\x1b" not in repr(result)
    for row in made_audit(text=hostile()).rows:
        assert repr(row).isprintable()


def test_findings_are_one_line(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(made_audit().to_json(), encoding="utf-8")
    folders = [tmp_path / "a", tmp_path / "b"]
    verdict = bures.gate(folders[0], bures.GateConfig(max_asr=0.9))
    assert repr(verdict) == f"Gated({verdict.finding} Judge arditi.)"
    compared = bures.compare(folders)
    assert repr(compared) == f"Compared({compared.pairs[0].finding})"
    assert repr(bures.history(folders)) == "History(2 audits in 1 series, 0 left out)"


def test_sections_of_a_report_by_name() -> None:
    result = made_audit()
    whole, part = bures.Report(result), bures.Report(result, "damage")
    assert [section.id for section in part.page.sections] == ["damage"]
    assert len(part.html) < len(whole.html)
    with pytest.raises(ConfigError, match=r"no section 'nothing'; it has outcome, damage"):
        bures.Report(result, ["nothing"])._repr_html_()


def test_models_and_interventions_are_one_line(llama: bures.ChatModel) -> None:
    assert repr(llama) == f"ChatModel(tiny-llama, {len(llama.blocks)} blocks, d {llama.d_model}, float32, cpu)"
    T = bures.ablate_direction(torch.ones(llama.d_model))
    one = bures.Intervention({1: T}, tokens="last", strength=0.5)
    assert repr(one) == "Intervention(ablation at the output of block 1, tokens last, strength 0.5)"
    sites = {bures.Site(block, where): T for block in range(3) for where in ("input", "mlp")}
    said = "Intervention(ablation at the input, mlp of 3 blocks (0 to 2), tokens all)"
    assert repr(bures.Intervention(sites)) == said  # pyright: ignore[reportArgumentType]
    assert repr(bures.Intervention()) == "Intervention(none)"


def test_a_configuration_shows_what_is_not_the_default_and_no_secret() -> None:
    config = bures.SearchConfig(model="m", trials=3, storage="postgresql://user:word@host/x")
    assert repr(config) == "SearchConfig(model='m', trials=3)"


def test_a_result_shows_its_table_and_prompts_only_their_name(tmp_path: Path) -> None:
    table = made_audit()._repr_html_()
    assert "<table" in table
    file = tmp_path / "mine.txt"
    file.write_text("Where do the swallows go?\n", encoding="utf-8")
    shown = repr(bures.load_prompts(file))
    assert "n=1" in shown
    assert "swallows" not in shown
