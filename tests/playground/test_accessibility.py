"""axe finds nothing; everything is large enough, fits, and stays on this host."""

from __future__ import annotations

import pytest

from tests.support.browser import DESKTOP, PHONE, Axe, Browser, Page, expect, visit
from tests.support.services import Running

pytestmark = pytest.mark.browser

LOOKS = [(size, theme) for size in (DESKTOP, PHONE) for theme in ("light", "dark")]
LEAST_PX = 40

SMALL = f"""() => [...document.querySelectorAll("button, input, select, a")]
  .map((each) => [each, each.getBoundingClientRect()])
  .filter(([each, box]) => box.width && each.checkVisibility({{ visibilityProperty: true }}))
  .filter(([each, box]) => !each.closest(".skip") && Math.min(box.width, box.height) < {LEAST_PX})
  .map(([each, box]) => `${{each.id || each.outerHTML.slice(0, 80)}}: ${{box.width}} x ${{box.height}}`)"""


def check(page: Page) -> None:
    page.wait_for_timeout(500)  # what fades has its contrast at the end
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate(SMALL) == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_in_every_state(
    browser: Browser, service: Running, size: tuple[int, int], theme: str
) -> None:
    path = "/#class=1&quality=custom&guidance=1.5&steps=3&sampler=ddim&interval=0.2-0.8&seed=5"
    with visit(browser, service.url, path=path, size=size, theme=theme) as visited:
        page, phone = visited.page, size == PHONE
        check(page)
        if phone:
            page.locator("#rail-open").click()
            check(page)
        page.keyboard.press("Control+Enter")
        expect(page.locator(".tile:not(.pending)")).to_have_count(1)
        check(page)
        page.locator(".tile").get_by_role("button", name="All actions").press("Enter")
        check(page)
        page.keyboard.press("Escape")
        page.get_by_role("toolbar").get_by_role("button", name="Code for this picture").click()
        check(page)
        page.keyboard.press("Escape")
        page.goto(f"{service.url}/#class=peer&x=guidance:1,2&y=seed:1..2")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#class-error")).not_to_be_empty()
        page.get_by_role("combobox", name="Class").fill("p")
        expect(page.get_by_role("listbox")).to_be_visible()
        check(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_chosen(
    browser: Browser, service: Running, theme: str
) -> None:
    with visit(browser, service.url, theme=theme) as visited:
        page, root = visited.page, visited.page.locator("html")
        expect(root).to_have_attribute("data-theme", theme)
        page.get_by_role("button", name="Dark theme").click()
        other = "light" if theme == "dark" else "dark"
        expect(root).to_have_attribute("data-theme", other)
        page.reload()
        expect(root).to_have_attribute("data-theme", other)


def test_the_page_of_the_api_stays_on_this_host(browser: Browser, service: Running) -> None:
    with visit(browser, service.url, path="/docs", ready="form") as visited:
        visited.page.locator("form[data-path='/classes'] button").click()
        expect(visited.page.locator("form[data-path='/classes'] output")).to_contain_text("pear")


def test_under_a_path_that_a_proxy_strips_addresses_are_right(
    browser: Browser, service: Running
) -> None:
    with visit(browser, service.url) as visited:
        page = visited.page
        page.route(
            "**/images/**",
            lambda route: route.continue_(url=route.request.url.replace("/images/", "/")),
        )
        page.goto(f"{service.url}/images/#class=1")
        page.locator("body.ready").wait_for(state="attached")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".tile:not(.pending)")).to_have_count(1)
