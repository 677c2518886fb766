"""The page of a run's answers: private, inert, filtered."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bures import cli
from bures.errors import ConfigError
from bures.report.view import view_page, write_view
from helpers.browser import launched, opened
from helpers.made_results import HOSTILE, made_audit

ROWS, N = ("none", "rfa-1", "pca-ot-1"), 6


def line(row: str, side: str, i: int, *, text: str = "") -> dict[str, Any]:
    """An answer of invented text: `none` refuses all, the others every third; gcg disagrees once a row and side."""
    refused: bool | None = row == "none" or i % 3 == 0
    refused = None if i == 5 else refused
    said = refused if i != 1 or refused is None else not refused
    return {
        "row": row,
        "set": side,
        "hash": f"{i:064x}",
        "category": None,
        "prompt": f"How is bread baked, way {i}? {text}",
        "completion": f"Answer of {row} to {i}. {text}",
        "thinking": None,
        "finished": refused is not None,
        "refusal": {"arditi": refused, "gcg": said, "arditi+coherent": not refused},
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with answers."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.json").write_text(made_audit().to_json(), encoding="utf-8")
    lines = [line(row, side, i) for row in ROWS for side in ("harmful", "harmless") for i in range(N)]
    (folder / "completions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return folder


def test_the_file_is_readable_by_its_owner_only(run: Path) -> None:
    page = write_view(run)
    assert page == run / "answers.html"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text(encoding="utf-8")
    assert text.count("<article") == len(ROWS) * 2 * N
    assert 'content="default-src &#39;none&#39;; ' in text
    assert "http" not in text.replace("http-equiv", "")


def test_filters_leave_what_they_say(run: Path) -> None:
    page = write_view(run)
    shown = "[...document.querySelectorAll('article')].filter((a) => !a.hidden).length"
    with launched() as browser, opened(browser, page) as tab:
        assert tab.evaluate(shown) == len(ROWS) * 2 * N
        tab.page.select_option("[data-filter=row]", label="rfa-1")
        assert tab.evaluate(shown) == 2 * N
        tab.page.select_option("[data-filter=side]", label="harmful")
        tab.page.check("[data-filter=flipped]")
        assert tab.evaluate(shown) == 3  # 1, 2 and 4; 0 and 3 are refused still, 5 is unfinished in both
        tab.page.check("[data-filter=disagree]")
        assert tab.evaluate(shown) == 1
        tab.page.select_option("[data-filter=verdict]", label="refused")
        assert tab.evaluate(shown) == 0
        assert tab.page.is_visible("#nothing")
        assert tab.page.inner_text("output") == f"0 of {len(ROWS) * 2 * N} answers"
        assert (tab.asked, tab.said, tab.dialogs) == ([], [], [])


def test_answers_are_text_and_nothing_more(tmp_path: Path) -> None:
    lines = [{**line(text, text, i, text=text), "category": text} for i, text in enumerate(HOSTILE)]
    for each, text in zip(lines, HOSTILE, strict=True):
        each["refusal"] = {text: True, "arditi": False}
    page = view_page(made_audit(), lines)
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "<b>" not in page
    assert "\u202e" not in page
    (tmp_path / "page.html").write_text(page, encoding="utf-8", errors="strict")
    with launched() as browser, opened(browser, tmp_path / "page.html") as tab:
        assert (tab.asked, tab.said, tab.dialogs) == ([], [], [])


def test_a_repository_does_not_take_it_up(run: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(run.parent)], check=True)
    with pytest.raises(ConfigError, match="in a git repository that does not ignore it"):
        write_view(run)
    assert not (run / "answers.html").exists()
    (run.parent / ".gitignore").write_text("run/\n", encoding="utf-8")
    assert write_view(run).exists()


@pytest.mark.parametrize("kept", ["", "no json\n"])
def test_answers_that_were_not_kept_are_one_line(run: Path, kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "completions.jsonl").write_text(kept, encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        cli.main(["view", str(run)])
    assert end.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "no answers are kept" in said
    assert "\n" not in said
