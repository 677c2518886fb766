"""How long the page of a 7B model's audit takes to write, and to open in a headless Chromium.

The result is made up (`tests/made_results.py`): 32 blocks, 5 methods, 5 ranks, 159 harmful prompts, 3 judges.

    python benchmarks/report.py

Opening needs Playwright (`pip install 'bures[test]'`) and a Chromium on the path or in BURES_CHROMIUM.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from bures.report.build import write_report
from bures.report.kit.bundle import vega_bundle
from bures.results.run_folder import RunFolder
from helpers.browser import chromium
from helpers.made_results import made_audit

REPEATS = 5
READY = """() => {
    const from = performance.getEntriesByType('navigation')[0].startTime;
    const first = performance.getEntriesByName('first-contentful-paint')[0];
    const charts = performance.getEntriesByType('mark').map((mark) => mark.startTime - from);
    return [first.startTime - from, charts[0], Math.max(...charts)];
}"""


def writing(folder: Path) -> None:
    """Prints the time from `results.json` to `report.html`, the chart library being in the cache."""
    vega_bundle()
    page = folder / "report.html"
    walls: list[float] = []
    processors: list[float] = []
    for _ in range(REPEATS):
        wall, processor = time.perf_counter(), time.process_time()
        write_report(folder)
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    print(
        f"written in {statistics.median(walls):.2f} s (first {walls[0]:.2f} s), processor "
        f"{statistics.median(processors):.2f} s, {page.stat().st_size / 1e6:.2f} MB"
    )


def opening(page: Path, executable: str) -> None:
    """Prints the time from navigation to the first paint, to the first chart and to the last one.

    The processor time of the page's main thread says the same where the machine is busy with other things.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable)
        times: list[list[float]] = []
        for _ in range(REPEATS):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tools = tab.context.new_cdp_session(tab)
            tools.send("Performance.enable", {"timeDomain": "threadTicks"})
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]")
            spent = {each["name"]: each["value"] for each in tools.send("Performance.getMetrics")["metrics"]}
            times.append([*tab.evaluate(READY), 1000 * spent["TaskDuration"]])
            tab.close()
        browser.close()
    first, chart, last, spent = (statistics.median(column) / 1000 for column in zip(*times, strict=True))
    print(
        f"opened: first paint {first:.2f} s, first chart {chart:.2f} s, all charts {last:.2f} s; main thread's "
        f"processor {spent:.2f} s"
    )


def main() -> None:
    """Both measurements, in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        RunFolder(folder).results.write_text(made_audit().to_json())
        writing(folder)
        executable = chromium()
        if executable is None:
            print("no Chromium found: opening was not measured")
            return
        opening(folder / "report.html", executable)


if __name__ == "__main__":
    main()
