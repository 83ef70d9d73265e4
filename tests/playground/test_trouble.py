"""What goes wrong is said in words, where it is, with what helps."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from model.runner.runner import ModelRunner
from tests.support.browser import PHONE, Browser, expect, visit
from tests.support.requests import gated_service
from tests.support.services import Running, load_small_runner, running_service

pytestmark = pytest.mark.browser

PEAR = "/#class=1&quality=custom&guidance=1.5&steps=8&sampler=ddim&interval=0-1&seed=5"


@pytest.mark.parametrize("size", [(1280, 800), PHONE])
def test_a_field_out_of_range_is_marked_with_the_range(
    browser: Browser, service: Running, size: tuple[int, int]
) -> None:
    path = PEAR.replace("steps=8", "steps=5000").replace("guidance=1.5", "guidance=90")
    with visit(browser, service.url, path=path, size=size) as visited:
        page = visited.page
        page.keyboard.press("Control+Enter")
        expect(page.locator("#steps-error")).to_contain_text("from 1 to")
        expect(page.locator("#guidance-error")).to_have_text("Must be a number from 1.0 to 20.0.")
        expect(page.locator("#steps-number")).to_be_focused()
        expect(page.locator("#steps-number")).to_be_in_viewport()
        expect(page.locator(".tile")).to_have_count(0)
        page.locator("#steps-number").fill("3")
        expect(page.locator("#steps-error")).to_be_empty()
        assert visited.refusals


def test_an_unknown_class_has_the_nearest_names_as_chips(
    browser: Browser, service: Running
) -> None:
    with visit(browser, service.url) as visited:
        page = visited.page
        page.get_by_role("combobox", name="Class").fill("peer")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#class-error")).to_contain_text("No class is called “peer”")
        page.locator("#nearest").get_by_role("button", name="pear").click()
        expect(page.get_by_role("combobox", name="Class")).to_have_value("pear")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#line")).to_contain_text("pear seed")


def test_nothing_is_sent_without_a_class(browser: Browser, service: Running) -> None:
    with visit(browser, service.url) as visited:
        visited.page.keyboard.press("Control+Enter")
        expect(visited.page.locator("#class-error")).to_have_text("Choose a class first.")
        assert visited.refusals == []


def test_a_full_queue_counts_down_and_tries_again(browser: Browser, pipeline_folder: Path) -> None:
    with (
        gated_service(pipeline_folder, max_queue_row_steps=30) as (service, runner),
        visit(browser, service.url, path=PEAR) as visited,
    ):
        page = visited.page
        page.keyboard.press("Control+Enter")
        runner.let(1)
        expect(page.locator("#line")).to_contain_text("Step 1 of 8")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#line")).to_contain_text("The queue is full. Trying again in")
        expect(page.locator(".tile.waiting")).to_have_count(1)
        runner.open()
        expect(page.locator(".tile:not(.pending)")).to_have_count(2)
        assert any("429" in each for each in visited.refusals)


def test_offline_and_back(browser: Browser, service: Running) -> None:
    with visit(browser, service.url, path=PEAR) as visited:
        page = visited.page
        page.context.set_offline(True)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#line")).to_contain_text("The service does not answer.")
        expect(page.locator("#offline")).to_contain_text("Waiting for it to come back.")
        expect(page.locator("#fact-queue")).to_have_text("–")
        page.context.set_offline(False)
        page.locator("#offline-retry").click()
        expect(page.locator("#offline")).to_be_hidden()
        page.get_by_role("toolbar").get_by_role("button", name="Try now").click()
        expect(page.locator(".tile:not(.pending)")).to_have_count(1)


def test_a_service_that_starts_is_waited_for(browser: Browser, pipeline_folder: Path) -> None:
    may_load = threading.Event()

    def load() -> ModelRunner:
        assert may_load.wait(60), "the test never let it load"
        return load_small_runner(pipeline_folder)

    with (
        running_service(load, wait_ready=False) as service,
        visit(browser, service.url, ready="#offline-retry") as visited,
    ):
        page = visited.page
        expect(page.locator("#offline")).to_contain_text("Waiting for the service: ")
        may_load.set()
        expect(page.locator("body.ready")).to_be_attached()
        expect(page.locator("#fact-model")).to_contain_text("5 classes")
        expect(page.locator("#offline")).to_be_hidden()


def test_a_proxy_may_keep_the_metrics_to_itself(browser: Browser, service: Running) -> None:
    """As the example in docs/operations.md does."""
    with visit(browser, service.url, path=PEAR) as visited:
        page = visited.page
        page.route("**/metrics", lambda route: route.fulfill(status=403, body="Forbidden"))
        page.reload()
        expect(page.locator("#fact-queue")).to_have_text("not told")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".tile:not(.pending)")).to_have_count(1)
        expect(page.locator("#offline")).to_be_hidden()


def test_the_metrics_may_have_a_port_of_their_own(browser: Browser, pipeline_folder: Path) -> None:
    with (
        running_service(lambda: load_small_runner(pipeline_folder), metrics_hosts=()) as service,
        visit(browser, service.url, path=PEAR) as visited,
    ):
        page = visited.page
        expect(page.locator("#fact-queue")).to_have_text("not told")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".tile:not(.pending)")).to_have_count(1)
        expect(page.locator("#offline")).to_be_hidden()


def test_a_key_is_asked_for_and_sent(browser: Browser, service: Running) -> None:
    """This service itself has no keys; a proxy before it may."""
    with visit(browser, service.url, path=PEAR) as visited:
        page = visited.page
        page.route(
            "**/generate",
            lambda route: (
                route.continue_()
                if route.request.headers.get("authorization") == "Bearer secret"
                else route.fulfill(status=401, body=json.dumps({"status": 401, "detail": "no key"}))
            ),
        )
        page.keyboard.press("Control+Enter")
        expect(page.locator("#key-error")).to_have_text("The service asks for a key.")
        page.get_by_label("API key").fill("secret")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".tile:not(.pending)")).to_have_count(1)
