"""Chromium, driven by playwright: a page of the playground, and what it did that it should not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

try:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import (
        Browser,
        ConsoleMessage,
        Page,
        Request,
        expect,
        sync_playwright,
    )
except ImportError:
    pytest.skip("needs playwright; make test-browser installs it", allow_module_level=True)

__all__ = ["Axe", "Browser", "Page", "Visit", "expect", "open_browser", "shifts_of", "visit"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP, PHONE = (1280, 800), (390, 844)
PATIENCE_MS = 30_000

expect.set_options(timeout=PATIENCE_MS)

COUNT_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) if (!each.hadRecentInput) window.shifts.push(each.value);
}).observe({ type: "layout-shift", buffered: true });
"""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """The machine's own Chromium, without a window; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"needs Chromium: none of {', '.join(NAMES)} is on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(eq=False)  # no slots: playwright keeps something in it
class Visit:
    """A page and its faults: errors of its own, and requests that leave its origin."""

    page: Page
    origin: str
    faults: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def note_console(self, message: ConsoleMessage) -> None:
        """Chromium writes a line for every answer of 400 or more, and for none: no fault."""
        if message.type in {"error", "warning"}:
            loading = message.text.startswith("Failed to load resource")
            (self.refusals if loading else self.faults).append(message.text)

    def note_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if (
            parts.scheme not in {"blob", "data"}
            and f"{parts.scheme}://{parts.netloc}" != self.origin
        ):
            self.faults.append(f"{request.url} is of another host")


@contextmanager
def visit(
    browser: Browser,
    url: str,
    *,
    path: str = "/",
    size: tuple[int, int] = DESKTOP,
    theme: str = "light",
    ready: str = "body.ready",
) -> Iterator[Visit]:
    """Open a page in a new profile; at the end it must have had no fault.

    Args:
        ready: a selector to wait for.
    """
    phone = size == PHONE
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if theme == "dark" else "light",
        has_touch=phone,
        is_mobile=phone,
        accept_downloads=True,
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(COUNT_SHIFTS)
    page = context.new_page()
    visited = Visit(page, url)
    page.on("console", visited.note_console)
    page.on("pageerror", lambda error: visited.faults.append(str(error)))
    page.on("request", visited.note_request)
    try:
        page.goto(url + path)
        page.locator(ready).first.wait_for(state="attached")
        yield visited
        assert visited.faults == []
    finally:
        context.close()


def shifts_of(page: Page) -> float:
    """How much of the page has moved by itself, as browsers count it; 0 is nothing."""
    total = page.evaluate("() => window.shifts.reduce((sum, each) => sum + each, 0)")
    assert isinstance(total, int | float)
    return float(total)
