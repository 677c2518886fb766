"""The page as a browser shows it: charts with marks, nothing fetched, nothing untrusted that acts, on any screen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bures.report.build import write_report
from bures.results.run_folder import RunFolder
from bures.results.schema import RunResult
from helpers.browser import Opened, launched, opened
from helpers.made_results import HOSTILE, hostile, made_audit, made_scan, made_search


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as running:
        yield running


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders with their pages."""
    root = tmp_path_factory.mktemp("runs")
    results: dict[str, RunResult] = {
        "audit": made_audit(n_blocks=6, n_prompts=40),
        "hostile audit": made_audit(n_blocks=4, n_prompts=40, text=hostile()),
        "scan": made_scan(n_blocks=4),
        "hostile scan": made_scan(n_blocks=4, text=hostile()),
        "search": made_search(30),
        "hostile search": made_search(30, text=hostile()),
    }
    for name, result in results.items():
        (root / name).mkdir()
        RunFolder(root / name).results.write_text(result.to_json())
        write_report(root / name)
    return {name: root / name for name in results}


def quiet(page: Opened) -> None:
    """Nothing went wrong, nothing was fetched."""
    assert page.said == []
    assert page.asked == []
    assert page.dialogs == []


def until(page: Opened, condition: str) -> None:
    """Waits for a condition; the page's policy lets no script wait for it inside."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.page.wait_for_timeout(50)
    raise AssertionError(f"never true: {condition}")


def tooltip_of(page: Opened, figure: str) -> str:
    """The tooltip over the first of a figure's symbols that has one; empty where none has."""
    page.page.locator(f"#{figure} .plot").scroll_into_view_if_needed()
    centres = page.evaluate(f"""[...document.querySelectorAll('#{figure} .plot .mark-symbol path')].map((path) => {{
        const box = path.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    }})""")
    for x, y in centres[::-1][:20]:
        page.page.mouse.move(x, y)
        page.page.mouse.move(x + 1, y)
        text = page.evaluate(
            "(() => { const t = document.getElementById('tip'); return t.hidden ? '' : t.innerText; })()"
        )
        if text:
            return text
    return ""


@pytest.mark.parametrize("job", ["audit", "scan", "search"])
def test_every_plot_has_marks_and_tooltips_and_nothing_is_fetched(
    browser: Any, folders: dict[str, Path], job: str
) -> None:
    with opened(browser, folders[job] / "report.html") as page:
        counts = page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('.plot')].map((plot) => "
            "[plot.dataset.figure, plot.querySelectorAll('.mark-symbol path').length]))"
        )
        assert len(counts) == {"audit": 12, "scan": 3, "search": 2}[job]
        assert all(counts.values()), counts
        for figure in counts:
            assert "\n" in tooltip_of(page, figure), figure
        labels = page.evaluate("[...document.querySelectorAll('.plot')].map((plot) => plot.ariaLabel.length)")
        assert min(labels) > 20
        quiet(page)


def test_the_first_table_needs_no_scrolling_on_a_desktop(browser: Any, folders: dict[str, Path]) -> None:
    with opened(browser, folders["audit"] / "report.html", width=1300) as page:
        box = "document.querySelector('#outcome > .scroll')"
        assert page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth")


def test_the_table_is_that_of_the_results(browser: Any, folders: dict[str, Path]) -> None:
    held = json.loads((folders["audit"] / "results.json").read_text())

    def percent(m: dict[str, Any]) -> str:
        return f"{100 * m['value']:.1f} [{100 * m['interval'][0]:.1f}, {100 * m['interval'][1]:.1f}]"

    with opened(browser, folders["audit"] / "report.html") as page:
        lines = page.evaluate(
            "[...document.querySelectorAll('#outcome > .scroll tbody tr')].map((row) => "
            "[...row.cells].map((cell) => cell.textContent))"
        )
        assert len(lines) == len(held["rows"])
        for cells, row in zip(lines[:-1], held["rows"][:-1], strict=True):
            assert cells[1] == row["key"]
            mark = "!" if row["within_budget"] is False else ""
            assert cells[6:8] == [percent(row["asr"]["arditi"]), percent(row["over_refusal"]["arditi"])]
            assert cells[8] == f"{row['perplexity']['value']:.2f}"
            within = row["perplexity_ratio_interval"]
            between = "" if within is None else f" [{within[0]:.2f}, {within[1]:.2f}]"
            ratio = row["perplexity_ratio"]
            assert cells[9] == ("-" if ratio is None else f"{ratio:.2f}{between}{mark}")
            assert cells[10] == f"{row['kl']['value']:.3f}"
            assert cells[11] == f"{row['corpus_perplexity']['value']:.2f}"
            assert cells[3] == row["sites"]
        assert lines[-1][6] == "failed"
        columns = page.page.locator("#outcome > .scroll thead button")
        columns.nth(6).click()
        sorted_ = page.page.locator("#outcome > .scroll tbody td:nth-child(7)").all_text_contents()
        shares = [float(text.split()[0]) for text in sorted_[:-1]]
        assert shares == sorted(shares)


@pytest.mark.parametrize("job", ["audit", "scan", "search"])
def test_untrusted_text_does_nothing(browser: Any, folders: dict[str, Path], job: str) -> None:
    kept = folders[f"hostile {job}"]
    with opened(browser, kept / "report.html") as page:
        quiet(page)
        assert page.evaluate("document.querySelectorAll('script').length") == 3
        assert (
            page.evaluate("document.querySelectorAll('img, iframe, object, b, [onerror], [href^=javascript]').length")
            == 0
        )
        text = page.evaluate("document.body.textContent + document.title")
        assert "<script>alert(1)</script>" in text
        assert "{{7*7}}{{1337*7331}}" in text
        assert "9801547" not in text
        assert "nul\\x00 bell\\x07" in text
        assert "\\u202etxt" in text
        assert "more characters)" in text
        assert "x" * 5000 not in text
        for figure in page.evaluate("[...document.querySelectorAll('.plot')].map((plot) => plot.dataset.figure)"):
            assert tooltip_of(page, figure), figure
        for button in page.page.locator(".controls button").all()[:12]:
            button.click()
        quiet(page)
    source = (kept / "report.html").read_text()
    assert not any(c in source for c in "\x00\x07\x1b\u202e\u2028")


def test_completions_are_absent_unless_they_were_asked_for_and_then_inert(
    browser: Any, folders: dict[str, Path]
) -> None:
    kept = folders["hostile audit"]
    lines = [
        {
            "row": "none",
            "set": "harmful",
            "hash": "0" * 64,
            "prompt": f"{text} asked",
            "completion": f"{text} was-written",
        }
        | {"refusal": {text: True}}
        for text in HOSTILE
    ]
    RunFolder(kept).append_completions(lines)
    assert "was-written" not in write_report(kept).read_text()
    page_file = write_report(kept, show_completions=20)
    assert page_file.name == "report-with-completions.html"
    assert page_file.stat().st_mode & 0o077 == 0
    assert (kept / "report.html").stat().st_mode & 0o044
    with opened(browser, page_file) as page:
        quiet(page)
        text = page.evaluate("document.querySelector('#completions').textContent")
        assert "</script><img src=x onerror=alert(1)> was-written" in text
        assert page.page.locator("#completions tbody tr").count() == len(HOSTILE)
        assert page.evaluate("document.querySelectorAll('img, b').length") == 0
        assert "may hold harmful text" in page.evaluate("document.querySelector('.cautions').textContent")
        quiet(page)


def test_a_script_that_someone_adds_does_not_run(browser: Any, folders: dict[str, Path], tmp_path: Path) -> None:
    source = (folders["search"] / "report.html").read_text()
    changed = tmp_path / "changed.html"
    extra = "<script>document.title = 'changed'; fetch('file:///etc/hostname')</script>"
    changed.write_text(source.replace("<footer>", extra + "<img src='https://example.org/x.png'><footer>"))
    with opened(browser, changed) as page:
        assert page.page.title() != "changed"
        assert any("Content Security Policy" in line for line in page.said)
        assert all(page.refused[url] == "csp" for url in page.asked)


@pytest.mark.parametrize("job", ["audit", "hostile audit", "hostile search"])
def test_nothing_is_wider_than_a_phone(browser: Any, folders: dict[str, Path], job: str) -> None:
    with opened(browser, folders[job] / "report.html", width=390) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(
            "[...document.querySelectorAll('.plot svg')].every((svg) => "
            "svg.getBoundingClientRect().right <= svg.closest('section').getBoundingClientRect().right)"
        )
        plot = page.page.locator(".plot").first
        plot.scroll_into_view_if_needed()
        box = plot.locator(".mark-symbol path").last.bounding_box()
        assert box is not None
        page.page.touchscreen.tap(box["x"] + box["width"] / 2 + 9, box["y"])
        until(page, "!document.getElementById('tip').hidden")
        quiet(page)


def test_dark_light_and_print_without_drawing_again(browser: Any, folders: dict[str, Path]) -> None:
    def colours(page: Opened) -> list[str]:
        return page.evaluate("""(() => {
            const label = document.querySelector('#intervals .role-axis-label text');
            const mark = document.querySelector('#intervals .mark-symbol path');
            return [getComputedStyle(document.body).backgroundColor, getComputedStyle(label).fill,
                    getComputedStyle(mark).fill];
        })()""")

    with opened(browser, folders["audit"] / "report.html", scheme="dark") as page:
        dark = colours(page)
        page.page.emulate_media(color_scheme="light")
        light = colours(page)
        page.page.emulate_media(media="print", color_scheme="dark")
        printed = colours(page)
        assert len({dark[0], light[0], printed[0]}) == 3
        assert dark[1] != light[1]
        assert printed[0] == "rgb(255, 255, 255)"
        assert printed[2] != dark[2]
        assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        quiet(page)


def test_keyboard_and_wheel(browser: Any, folders: dict[str, Path]) -> None:
    with opened(browser, folders["audit"] / "report.html") as page:
        page.page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        button = page.page.locator("#damage .legend button").first
        button.focus()
        count = "document.querySelectorAll('#against-kl .mark-symbol path').length"
        before = page.evaluate(count)
        page.page.keyboard.press("Space")
        assert button.get_attribute("aria-pressed") == "false"
        until(page, f"{count} < {before}")
        page.page.keyboard.press("Space")
        until(page, f"{count} == {before}")

        labels = "[...document.querySelectorAll('#against-kl .role-axis-label text')].map((t) => t.textContent).join()"
        whole = page.evaluate(labels)
        page.page.locator("#against-kl [data-zoom='0.7']").press("Enter")
        until(page, f"{labels} != {whole!r}")

        page.page.locator("#against-kl .plot").hover()
        scrolled = page.evaluate("scrollY")
        page.page.mouse.wheel(0, 200)
        until(page, f"scrollY > {scrolled}")
        quiet(page)


def test_a_choice_changes_what_is_drawn(browser: Any, folders: dict[str, Path]) -> None:
    with opened(browser, folders["audit"] / "report.html") as page:
        drawn = (
            "[...document.querySelectorAll('#observational .mark-symbol path')]"
            ".map((path) => path.getAttribute('transform')).join()"
        )
        before = page.evaluate(drawn)
        page.page.locator("#observational .choice button").nth(1).click()
        until(page, f"{drawn} != {before!r}")
        pressed = page.page.locator("#observational .choice [aria-pressed=true]")
        assert pressed.all_inner_texts() == ["2-Wasserstein distance"]
        quiet(page)
