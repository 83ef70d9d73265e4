"""The playground of a service with API keys: the page opens, asks for one, and works with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.http.keys.key_list import parse_keys
from service.http.keys.key_ring import KeyRing
from tests.support.browser import DESKTOP, PHONE, Browser, Page, expect, visit
from tests.support.keys import ALICE, BOB, bearer, key_ring
from tests.support.services import Running, load_small_runner, running_service, wait_until

pytestmark = pytest.mark.browser

PEAR = "/#class=1&quality=custom&guidance=1.5&steps=3&sampler=ddim&interval=0-1&seed=5"
ASKS = "#key-field:not([hidden])"
DONE = ".tile:not(.pending)"


@pytest.fixture
def locked(pipeline_folder: Path) -> Iterator[tuple[Running, KeyRing]]:
    ring = key_ring(alice="max_images=3")
    with running_service(lambda: load_small_runner(pipeline_folder), keys=ring) as running:
        yield running, ring


def enter(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def ready(page: Page) -> None:
    page.locator("body.ready").wait_for(state="attached")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_it_asks_for_a_key_before_anything_else(
    browser: Browser, locked: tuple[Running, KeyRing], size: tuple[int, int]
) -> None:
    service, _ = locked
    with visit(browser, service.url, path=PEAR, size=size, ready=ASKS) as visited:
        page = visited.page
        expect(page.locator("#key-error")).to_have_text("The service asks for a key.")
        expect(page.get_by_label("API key")).to_be_in_viewport()
        expect(page.get_by_label("API key")).to_be_focused()
        enter(page, "wrong")
        expect(page.locator("#key-error")).to_have_text("The service does not take this key.")
        assert "wrong" not in page.url
        enter(page, ALICE)
        ready(page)
        expect(page.locator("#key-error")).to_be_empty()
        expect(page.locator("#fact-queue")).to_have_text("free")  # of /metrics, with the key
        page.keyboard.press("Control+Enter")
        expect(page.locator(DONE)).to_have_count(1)
        page.get_by_role("toolbar").get_by_role("button", name="Verify").click()
        expect(page.locator("#toast")).to_contain_text("Verified")
        page.reload()
        ready(page)  # it is kept as long as the tab
        page.keyboard.press("Control+Enter")
        expect(page.locator(DONE)).to_have_count(2)
    with visit(browser, service.url, path=PEAR, size=size, ready=ASKS):
        pass  # another browser knows nothing of it


def test_the_limit_of_the_key_bounds_the_count(
    browser: Browser, locked: tuple[Running, KeyRing]
) -> None:
    with visit(browser, locked[0].url, path=PEAR, ready=ASKS) as visited:
        page = visited.page
        enter(page, ALICE)
        ready(page)
        for _ in range(2):
            page.get_by_role("button", name="One more").click()
        expect(page.locator("#count")).to_have_value("3")
        expect(page.get_by_role("button", name="One more")).to_be_disabled()


def test_a_request_beyond_a_limit_is_tried_again(
    browser: Browser, locked: tuple[Running, KeyRing]
) -> None:
    service, ring = locked
    with visit(browser, service.url, path=PEAR, ready=ASKS) as visited:
        page = visited.page
        enter(page, ALICE)
        ready(page)
        ring.replace(key_ring(alice="requests_per_minute=20").keys)  # one in three seconds
        while service.client.post("/nothing", headers=bearer(ALICE)).status_code != 429:
            pass
        page.keyboard.press("Control+Enter")
        expect(page.locator("#line")).to_contain_text("The key 'alice' may send 20 requests")
        expect(page.locator(DONE)).to_have_count(1)


def test_a_key_that_is_revoked_is_asked_for_anew(
    browser: Browser, locked: tuple[Running, KeyRing]
) -> None:
    service, ring = locked
    with visit(browser, service.url, path=PEAR, ready=ASKS) as visited:
        page = visited.page
        enter(page, ALICE)
        ready(page)
        ring.replace(parse_keys([f"bob: {BOB}"]))
        page.keyboard.press("Control+Enter")
        expect(page.locator("#key-error")).to_have_text("The service does not take this key.")
        page.get_by_label("API key").fill(BOB)
        page.keyboard.press("Control+Enter")
        expect(page.locator(DONE)).to_have_count(1)
        wait_until(lambda: service.metric("dit_key_requests_total", key="bob", outcome="ok") >= 1)


def test_the_page_of_the_api_sends_the_key(
    browser: Browser, locked: tuple[Running, KeyRing]
) -> None:
    with visit(browser, locked[0].url, path="/docs", ready="form") as visited:
        page = visited.page
        form = page.locator("form[data-path='/classes']")
        form.get_by_role("button").click()
        expect(form.locator("output")).to_contain_text("401")
        page.get_by_label("API key").fill(BOB)
        form.get_by_role("button").click()
        expect(form.locator("output")).to_contain_text("pear")
