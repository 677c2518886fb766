"""A headless Chromium for the tests of pages, driven by Playwright; the machine's own browser, none is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The browser: `$BURES_CHROMIUM`, or one on the path."""
    return os.environ.get("BURES_CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """A running browser; the test is skipped where there is none."""
    path = chromium()
    if path is None:
        pytest.skip(f"no browser: set BURES_CHROMIUM or install one of {', '.join(NAMES)}")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, and what it did that it should not.

    Attributes:
        page: Playwright's.
        said: what it wrote to the console, and its errors.
        asked: addresses that it asked for, besides its own.
        dialogs: what it alerted.
        refused: requests that failed, and why.
    """

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    refused: dict[str, str | None] = field(default_factory=dict)

    def evaluate(self, script: str) -> Any:
        """What the script says in the page."""
        return self.page.evaluate(script)


@contextmanager
def opened(
    browser: Browser, file: Path, *, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Opened]:
    """The file in a tab, once all its charts are drawn; a narrow one is a phone."""
    phone = width < 600
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, is_mobile=phone, has_touch=phone
    )
    page = context.new_page()
    seen = Opened(page)
    page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.on("requestfailed", lambda request: seen.refused.__setitem__(request.url, request.failure))
    page.on("request", lambda request: seen.asked.append(request.url))

    def dismiss(dialog: Any) -> None:
        seen.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    seen.asked.remove(file.as_uri())
    yield seen
    context.close()
