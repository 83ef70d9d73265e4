"""The class is found by name, synonym and id, with the keyboard alone."""

from __future__ import annotations

import pytest

from tests.support.browser import Browser, expect, visit
from tests.support.services import Running

pytestmark = pytest.mark.browser


def test_by_keyboard_alone(browser: Browser, service: Running) -> None:
    with visit(browser, service.url) as visited:
        page, box = visited.page, visited.page.get_by_role("combobox", name="Class")
        box.focus()
        page.keyboard.type("p")
        options = page.get_by_role("listbox").get_by_role("option")
        expect(options).to_have_count(3)
        expect(options.first).to_contain_text("pear")  # it begins so; apple has it in the middle
        expect(box).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("ArrowDown")
        expect(options.nth(1)).to_have_attribute("aria-selected", "true")
        active = box.get_attribute("aria-activedescendant")
        assert active == options.nth(1).get_attribute("id")
        page.keyboard.press("Enter")
        expect(box).to_have_value("plum")
        expect(box).to_have_attribute("aria-expanded", "false")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#line")).to_contain_text("plum seed")


@pytest.mark.parametrize(
    ("typed", "found"),
    [("DAMSON", "plum"), ("malus", "apple"), ("4", "fig"), ("damson  plum", "plum")],
)
def test_synonyms_and_ids(browser: Browser, service: Running, typed: str, found: str) -> None:
    with visit(browser, service.url) as visited:
        box = visited.page.get_by_role("combobox", name="Class")
        box.fill(typed)
        expect(visited.page.get_by_role("listbox").get_by_role("option").first).to_contain_text(
            found
        )
        box.press("Enter")
        expect(box).to_have_value(found)


def test_escape_closes_the_list_and_a_mouse_can_choose(browser: Browser, service: Running) -> None:
    with visit(browser, service.url) as visited:
        page, box = visited.page, visited.page.get_by_role("combobox", name="Class")
        box.fill("x")
        expect(page.get_by_text("No class has this in its name.")).to_be_visible()
        box.press("Escape")
        expect(page.get_by_role("listbox")).to_be_hidden()
        box.fill("")
        page.get_by_role("option", name="quince").click()
        expect(box).to_have_value("quince")
