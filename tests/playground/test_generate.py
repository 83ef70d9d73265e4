"""The playground draws: progress, previews, cancelling, several requests at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.browser import Browser, Page, expect, shifts_of, visit
from tests.support.requests import gated_service
from tests.support.services import GatedRunner, Running, wait_until

pytestmark = pytest.mark.browser

PEAR = "#class=1&quality=custom&guidance=1.5&steps=8&sampler=ddim&interval=0-1&seed=5"


def generate(page: Page) -> None:
    page.get_by_role("button", name="Generate").click()


def test_a_chip_is_one_click_from_the_first_picture(browser: Browser, service: Running) -> None:
    with visit(browser, service.url) as visited:
        page = visited.page
        page.locator(".welcome .chip", has_text="quince").click()
        expect(page.locator("#line")).to_contain_text("quince seed")
        expect(page.locator("#frame img").last).to_have_attribute("alt", "quince, picture 1")
        expect(page.locator(".tile:not(.pending)")).to_have_count(1)
        expect(page.get_by_label("Class", exact=True)).to_have_value("quince")


def test_progress_and_previews_arrive_and_nothing_moves(
    browser: Browser, gated: tuple[Running, GatedRunner]
) -> None:
    service, runner = gated
    with visit(browser, service.url, path="/" + PEAR) as visited:
        page, line = visited.page, visited.page.locator("#line")
        generate(page)
        expect(line).to_contain_text("Waiting for its first step")
        expect(page.locator("#frame img")).to_have_count(0)
        runner.let(1)
        expect(line).to_contain_text("Step 1 of 8")
        runner.let(3)  # the time left is known from the second event on
        expect(line).to_contain_text("Step 4 of 8")
        expect(line).to_contain_text("s left")
        preview = page.locator("#frame img")
        expect(preview).to_have_count(1)
        first = preview.get_attribute("src")
        expect(page.locator("#frame .progress")).to_have_attribute("aria-valuenow", "50")
        runner.open()
        expect(line).to_contain_text("seed 5 · guidance 1.5 · 8 steps · ddim")
        expect(line).to_contain_text("decode")
        expect(preview).to_have_count(1)
        assert preview.get_attribute("src") != first
        assert shifts_of(page) == 0


def test_the_place_in_the_queue_is_told(browser: Browser, pipeline_folder: Path) -> None:
    with (
        gated_service(pipeline_folder, max_rows=2) as (service, runner),
        visit(browser, service.url, path="/" + PEAR) as visited,
    ):
        page = visited.page
        generate(page)
        runner.let(1)
        expect(page.locator("#line")).to_contain_text("Step 1 of 8")
        page.keyboard.press("Control+Enter")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".tile.pending")).to_have_count(3)
        expect(page.locator("#line")).to_contain_text("Waiting for its first step")
        runner.let(3)
        expect(page.locator("#line")).to_contain_text("In the queue, 1 ahead")


def test_cancel_frees_the_rows_and_leaves_no_tile(
    browser: Browser, gated: tuple[Running, GatedRunner]
) -> None:
    service, runner = gated
    with visit(browser, service.url, path="/" + PEAR) as visited:
        page = visited.page
        generate(page)
        runner.let(2)
        expect(page.locator("#line")).to_contain_text("Step 2 of 8")
        assert service.queue_row_steps > 0
        page.wait_for_timeout(500)  # sooner, it would be the second click of a double one
        page.get_by_role("button", name="Cancel", exact=True).click()
        expect(page.get_by_role("button", name="Generate")).to_be_visible()
        expect(page.locator(".tile")).to_have_count(0)
        runner.let(1)  # the tick that was under way
        wait_until(lambda: service.queue_row_steps == 0)
        wait_until(lambda: service.metric("dit_images_total", outcome="cancelled") == 1)


def test_several_requests_each_have_a_tile_and_one_can_be_cancelled(
    browser: Browser, gated: tuple[Running, GatedRunner]
) -> None:
    service, runner = gated
    with visit(browser, service.url, path="/" + PEAR) as visited:
        page = visited.page
        generate(page)
        page.keyboard.press("Control+Enter")
        page.get_by_role("button", name="Add another request").click()
        expect(page.locator(".tile.pending")).to_have_count(3)
        expect(page.get_by_role("button", name="Cancel all 3")).to_be_visible()
        wait_until(lambda: service.metric("dit_requests_running") >= 0)
        page.locator(".tile.pending").nth(1).get_by_role("button", name="Cancel pear").click()
        expect(page.locator(".tile.pending")).to_have_count(2)
        runner.open()
        expect(page.locator(".tile:not(.pending)")).to_have_count(2)
        assert service.metric("dit_images_total", outcome="ok") == 2


def test_several_pictures_share_the_stage(browser: Browser, service: Running) -> None:
    with visit(browser, service.url, path="/" + PEAR + "&count=4") as visited:
        page = visited.page
        generate(page)
        expect(page.locator("#line")).to_contain_text("4 pictures")
        expect(page.locator("#frame .cell img")).to_have_count(4)
        page.locator("#frame .cell").nth(2).click()
        expect(page.locator("#frame .cell")).to_have_count(1)
        expect(page.get_by_role("toolbar").get_by_role("button")).to_have_count(7)


def test_a_seed_stays_where_it_is_locked_and_is_drawn_where_it_is_not(
    browser: Browser, service: Running
) -> None:
    with visit(browser, service.url, path="/#class=1") as visited:
        page, seed = visited.page, visited.page.get_by_label("Seed", exact=True)
        page.keyboard.press("Control+Enter")
        expect(page.locator(".tile:not(.pending)")).to_have_count(1)
        first = seed.input_value()
        expect(page.locator("#line")).to_contain_text(f"seed {first} ")
        page.get_by_role("button", name="Keep this seed").click()
        page.keyboard.press("Control+Enter")
        expect(page.locator(".tile:not(.pending)")).to_have_count(2)
        assert seed.input_value() == first
        page.get_by_role("button", name="Draw another seed").click()
        assert seed.input_value() != first


def test_the_largest_seed_is_sent_and_shown_exactly(browser: Browser, service: Running) -> None:
    largest = 2**63 - 1
    with visit(browser, service.url, path=f"/#class=1&seed={largest}") as visited:
        generate(visited.page)
        expect(visited.page.locator("#line")).to_contain_text(f"seed {largest} ")


def test_the_address_restores_the_settings(browser: Browser, service: Running) -> None:
    there = PEAR.replace("0-1", "0.2-0.8")
    with visit(browser, service.url, path="/" + there) as visited:
        page = visited.page
        page.get_by_label("Class", exact=True).fill("fig")
        page.get_by_label("Class", exact=True).press("Enter")
        page.locator("#steps-number").fill("12")
        page.get_by_role("button", name="One more").click()
        changed = there.replace("class=1", "class=4").replace("steps=8", "steps=12")
        expect(page).to_have_url(f"{service.url}/{changed}&count=2")
        page.reload()
        expect(page.get_by_label("Class", exact=True)).to_have_value("fig")
        expect(page.locator("#steps-number")).to_have_value("12")
        expect(page.locator("#interval input[type=number]").first).to_have_value("0.8")
        expect(page.locator("#count")).to_have_value("2")
        expect(page.locator("#seed")).to_have_value("5")


def test_a_quality_says_what_it_means_and_is_drawn_so(browser: Browser, service: Running) -> None:
    presets = service.client.get("/models").json()["data"][0]["presets"]["fast"]
    recipe = next(each for each in presets if each["cfg_scale"][0] <= 3 <= each["cfg_scale"][1])
    steps, sampler = recipe["num_sampling_steps"], recipe["sampler"]
    with visit(browser, service.url, path="/#class=1&guidance=3") as visited:
        page = visited.page
        page.get_by_role("radio", name="Fast").check()
        expect(page.get_by_role("radio", name="Fast")).to_have_accessible_name(
            re.compile(f"Fast *{steps} steps")
        )
        expect(page.locator("#recipe")).to_contain_text(sampler)
        with page.expect_request("**/generate") as sent:
            page.keyboard.press("Control+Enter")
        assert (sent.value.post_data_json or {})["quality"] == "fast"
        expect(page.locator("#line")).to_contain_text(f"{steps} steps · {sampler}")
        expect(page.get_by_role("radio", name="Fast")).to_have_accessible_name(
            re.compile(f"Fast *{steps} steps *[0-9.]+ s")
        )
        page.get_by_role("radio", name="Custom").check()
        expect(page.locator("#steps-number")).to_have_value(str(steps))
