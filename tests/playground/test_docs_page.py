"""The page /docs in a browser: its policy lets its own forms work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.services import Running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_the_forms_send_and_show_text_and_pictures(browser: Browser, service: Running) -> None:
    from tests.support.browser import expect, visit

    with visit(browser, service.url, path="/docs", ready="form") as opened:
        live = opened.page.locator('form[data-path="/livez"]')
        live.get_by_role("button").click()
        expect(live.locator("output")).to_contain_text('200 OK\n{"status":"alive"}')
        drawn = opened.page.locator('form[data-path="/generate"]')
        drawn.locator("textarea").fill('{"class_label": 1, "num_sampling_steps": 1}')
        drawn.get_by_role("button").click()
        image = drawn.locator("output img")
        expect(image).to_be_visible()
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        style = live.evaluate("form => getComputedStyle(form.querySelector('output')).display")
        assert style == "block"  # the page's own style holds
