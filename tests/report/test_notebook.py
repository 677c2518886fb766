"""What a notebook shows: figures and pages, never a prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

import bures
from bures.errors import RunError
from helpers.made_results import made_audit


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


def test_a_result_shows_its_table_and_prompts_only_their_name(tmp_path: Path) -> None:
    table = made_audit()._repr_html_()
    assert "<table" in table
    file = tmp_path / "mine.txt"
    file.write_text("Where do the swallows go?\n", encoding="utf-8")
    shown = repr(bures.load_prompts(file))
    assert "n=1" in shown
    assert "swallows" not in shown
