"""The pages of comparisons and histories in a browser: marks, tooltips, buttons, nothing fetched, on any screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bures.report.build import write_page
from bures.report.pages.compare import compare_page
from bures.report.pages.history import history_page
from bures.results.comparison import compare
from bures.results.history import history
from helpers.browser import Opened, launched, opened
from helpers.invented_audits import audit, localised, marks, model, row, saved

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}\x00\u202e" + "A" * 10000
SYMBOLS = (
    "Object.fromEntries([...document.querySelectorAll('.plot')].map((plot) => "
    "[plot.dataset.figure, plot.querySelectorAll('.mark-symbol path').length]))"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind, of audits with hostile names."""
    root, folders = tmp_path_factory.mktemp("pages"), []
    for night, (answered, name) in enumerate([(10, "first"), (30, EVIL), (35, "last")], start=1):
        rows = [
            row("none", marks(36, 40)),
            row("rfa-1", marks(40 - answered, 40), label="RFA", chosen_asr=0.9, kl=[0.1 * night] * 40, nll=[1.5] * 40),
            row("pca-ot-1", marks(20, 40), label=EVIL, rank=2, block=4, chosen_asr=0.5),
        ]
        result = audit(
            rows,
            model=model(name, str(night)),
            finished=f"2026-03-0{night}T01:00:00+00:00",
            localisation=localised(2, 3),
            max_new_tokens=16,
        )
        folders.append(saved(root / str(night), result))
    write_page(compare_page(compare(folders)), root / "compare.html")
    write_page(history_page(history(folders)), root / "history.html")
    return {name: root / f"{name}.html" for name in ("compare", "history")}


def quiet(page: Opened) -> None:
    assert page.said == []
    assert page.asked == []
    assert page.dialogs == []


def tooltip(page: Opened, figure: str) -> str:
    """The tooltip over the last symbol of a figure."""
    page.page.locator(f"#{figure} .plot").scroll_into_view_if_needed()
    x, y = page.evaluate(
        f"(() => {{ const box = [...document.querySelectorAll('#{figure} .plot .mark-symbol path')].at(-1)"
        ".getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    page.page.mouse.move(x, y)
    page.page.mouse.move(x + 1, y)
    return str(page.evaluate("document.getElementById('tip').innerText"))


@pytest.mark.parametrize("name", ["compare", "history"])
def test_every_plot_has_marks_and_tooltips_and_names_do_nothing(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    with opened(browser, pages[name]) as page:
        counts = page.evaluate(SYMBOLS)
        assert len(counts) == {"compare": 7, "history": 4}[name]
        assert all(counts.values()), counts
        for figure in counts:
            assert "\n" in tooltip(page, figure), figure
        assert page.evaluate("document.querySelectorAll('main script, main img').length") == 0
        assert "{{7*7}}" in page.evaluate("document.body.innerText")
        quiet(page)


@pytest.mark.parametrize("name", ["compare", "history"])
def test_nothing_is_wider_than_a_phone(browser: Any, pages: dict[str, Path], name: str) -> None:
    with opened(browser, pages[name], width=390, scheme="dark") as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert all(page.evaluate(SYMBOLS).values())
        quiet(page)


def test_buttons_choose_the_measure_and_hide_series(browser: Any, pages: dict[str, Path]) -> None:
    plot = "#forest-1 .plot .mark-symbol path"
    with opened(browser, pages["compare"]) as page:
        count = f"document.querySelectorAll('{plot}').length"
        places = f"[...document.querySelectorAll('{plot}')].map((path) => path.getAttribute('transform')).join()"
        assert page.evaluate(count) == 3
        before = page.evaluate(places)
        page.page.click("#forest-1 button[data-value=over]")
        page.page.wait_for_timeout(300)
        assert page.evaluate(count) == 3
        assert page.evaluate(places) != before
        page.page.click("#forest-1 button[data-value=chance]")  # no over-refusal differs: nothing is left
        page.page.wait_for_timeout(300)
        assert page.evaluate(count) == 0
        quiet(page)
