"""The gallery keeps pictures over a reload, and each can be made again."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.browser import PHONE, Browser, Page, expect, visit
from tests.support.services import Running

pytestmark = pytest.mark.browser

PEAR = "/#class=1&quality=custom&guidance=2&steps=3&sampler=dpmpp_2m&interval=0.1-0.9&seed=11"
DONE = ".tile:not(.pending)"


def draw(page: Page, count: int = 1) -> None:
    """Generate, and wait until the gallery has so many pictures."""
    page.keyboard.press("Control+Enter")
    expect(page.locator(DONE)).to_have_count(count)


def choose(page: Page, action: str, tile: int = 0) -> None:
    """An action of a tile's menu, by keyboard."""
    page.locator(DONE).nth(tile).get_by_role("button", name="All actions").press("Enter")
    item = page.get_by_role("menuitem", name=action)
    while item.evaluate("(each) => each !== document.activeElement"):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")


def file_of(page: Page) -> bytes:
    """The picture on the stage, downloaded."""
    with page.expect_download() as download:
        page.get_by_role("toolbar").get_by_role("button", name="Download").click()
    return Path(download.value.path()).read_bytes()


def copied(page: Page) -> str:
    text = page.evaluate("() => navigator.clipboard.readText()")
    assert isinstance(text, str)
    return text


def test_a_picture_outlives_a_reload_and_is_drawn_again_from_its_settings(
    browser: Browser, exact: Running
) -> None:
    with visit(browser, exact.url, path=PEAR) as visited:
        page = visited.page
        draw(page)
        first = file_of(page)
        page.goto(exact.url + "/#class=3&quality=best&guidance=5")
        page.reload()
        expect(page.locator(DONE)).to_have_count(1)
        page.locator(DONE).get_by_role("button", name="Show pear, seed 11").click()
        expect(page.locator("#line")).to_contain_text(
            "pear seed 11 · guidance 2 · 3 steps · dpmpp_2m"
        )
        assert file_of(page) == first
        page.get_by_role("toolbar").get_by_role("button", name="Use these settings").click()
        draw(page, 2)
        assert file_of(page) == first


def test_same_seed_other_guidance(browser: Browser, exact: Running) -> None:
    with visit(browser, exact.url, path=PEAR, size=PHONE) as visited:
        page = visited.page
        draw(page)
        choose(page, "Same seed, other guidance")
        slider = page.get_by_role("slider", name="Guidance", exact=True)
        expect(slider).to_be_focused()
        slider.press("ArrowRight")
        draw(page, 2)
        expect(page.locator("#line")).to_contain_text("seed 11 · guidance 2.1 · 3 steps")


def test_the_copied_commands_draw_the_same_bytes(
    browser: Browser, exact: Running, tmp_path: Path
) -> None:
    with visit(browser, exact.url, path=PEAR) as visited:
        page = visited.page
        draw(page)
        picture = file_of(page)
        for action, command in {
            "Copy as curl": ["bash", "-c"],
            "Copy as Python": [sys.executable, "-c"],
            "Copy as OpenAI client": [sys.executable, "-c"],
        }.items():
            choose(page, action)
            expect(page.locator("#toast")).to_contain_text(action.removeprefix("Copy as "))
            subprocess.run([*command, copied(page)], cwd=tmp_path, check=True, capture_output=True)
            (made,) = tmp_path.iterdir()
            assert made.name == "pear-11.png"
            assert made.read_bytes() == picture
            made.unlink()


def test_verify_metadata_and_code_are_shown(browser: Browser, exact: Running) -> None:
    with visit(browser, exact.url, path=PEAR) as visited:
        page, tools = visited.page, visited.page.get_by_role("toolbar")
        draw(page)
        tools.get_by_role("button", name="Verify").click()
        expect(page.locator("#toast")).to_contain_text("the same bytes came out")
        tools.get_by_role("button", name="Metadata").click()
        expect(page.get_by_role("dialog")).to_contain_text('"class_name": "pear"')
        page.keyboard.press("Escape")
        tools.get_by_role("button", name="Code for this picture").click()
        page.get_by_role("radio", name="OpenAI client").check()
        expect(page.get_by_label("Code", exact=True)).to_have_value(re.compile('prompt="pear"'))


def test_filter_remove_and_clear(browser: Browser, service: Running) -> None:
    with visit(browser, service.url, path="/#class=1") as visited:
        page = visited.page
        draw(page, 1)
        draw(page, 2)
        page.get_by_label("Class", exact=True).fill("fig")
        page.get_by_label("Class", exact=True).press("Enter")
        draw(page, 3)
        page.get_by_label("Show", exact=True).select_option("pear")
        expect(page.locator(DONE).filter(visible=True)).to_have_count(2)
        expect(page.locator("#gallery-count")).to_contain_text("2 of 3 pictures")
        choose(page, "Remove", tile=1)
        expect(page.locator(DONE)).to_have_count(2)
        page.get_by_label("Show", exact=True).select_option("")
        page.get_by_role("button", name="Clear all").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("removes all 2 pictures")
        dialog.get_by_role("button", name="Keep").click()
        expect(page.locator(DONE)).to_have_count(2)
        page.get_by_role("button", name="Clear all").click()
        dialog.get_by_role("button", name="Clear all").click()
        expect(page.locator(DONE)).to_have_count(0)
        page.reload()
        expect(page.locator("#gallery-empty")).to_be_visible()


def test_a_sheet_fills_and_is_saved_as_one_picture(browser: Browser, service: Running) -> None:
    path = "/#class=1&quality=custom&guidance=1.5&steps=2&sampler=ddim&seed=3"
    with visit(browser, service.url, path=path + "&x=guidance:1,2,4&y=seed:1..2") as visited:
        page = visited.page
        expect(page.locator("#estimate")).to_contain_text("6 pictures")
        page.get_by_role("button", name="Draw the sheet").click()
        expect(page.locator("#line")).to_contain_text("6 of 6 pictures")
        expect(page.locator(".sheet td img")).to_have_count(6)
        assert page.get_by_role("columnheader").all_inner_texts() == ["1", "2", "4"]
        assert page.get_by_role("rowheader").all_inner_texts() == ["1", "2"]
        with page.expect_download() as download:
            page.get_by_role("button", name="Download the sheet as PNG").click()
        sheet = Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))
        assert sheet.width > 3 * 128
        assert sheet.height > 2 * 128
        page.get_by_role("button", name="2, 4", exact=True).click()
        expect(page.locator("#line")).to_contain_text("pear seed 2 · guidance 4 · 2 steps")
        expect(page.locator(DONE)).to_have_count(1)
        page.get_by_role("button", name="Back to the sheet").click()
        expect(page.locator(".sheet td img")).to_have_count(6)


def test_a_wrong_value_of_a_sweep_is_marked(browser: Browser, service: Running) -> None:
    with visit(browser, service.url, path="/#class=1&x=guidance:1,200&y=seed:1..2") as visited:
        page = visited.page
        expect(page.locator("#x-error")).to_have_text("200 is not a number from 1 to 20.")
        expect(page.get_by_label("Values across")).to_have_attribute("aria-invalid", "true")
        page.get_by_label("Across", exact=True).select_option("class")
        expect(page.locator("#x-error")).to_be_empty()
        page.get_by_label("Values across").fill("pear, kiwi")
        expect(page.locator("#x-error")).to_have_text("No class is called kiwi.")
