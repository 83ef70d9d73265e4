"""The playground with a model that has sampler "ns", which takes few numbers of steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model.runner.build import build_runner
from model.runner.runner import ModelRunner
from tests.support.browser import Browser, expect, visit
from tests.support.services import LIMITS, Running, load_small_checkpoint, running_service

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def searched(pipeline_folder: Path) -> Iterator[Running]:
    """A service whose small model is taken for DiT-XL/2."""

    def load() -> ModelRunner:
        checkpoint = replace(load_small_checkpoint(pipeline_folder), architecture="DiT-XL/2")
        return build_runner(checkpoint, max_rows=8)

    with running_service(load, limits=replace(LIMITS, quality="best")) as running:
        yield running


def test_ns_begins_with_steps_that_it_takes(browser: Browser, searched: Running) -> None:
    path = "/#class=1&quality=custom&guidance=1.5&steps=50&sampler=ddim&seed=3"
    with visit(browser, searched.url, path=path) as visited:
        visited.page.locator("#sampler").select_option("ns")
        expect(visited.page.locator("#steps-number")).to_have_value("10")
        expect(visited.page.locator("#sampler-hint")).to_contain_text("10 steps at guidance 1 to 2")


def test_a_sweep_of_samplers_begins_with_those_that_take_any_steps(
    browser: Browser, searched: Running
) -> None:
    path = "/#class=1&quality=custom&guidance=1.5&steps=3&sampler=ddim&seed=3"
    with visit(browser, searched.url, path=path + "&x=sampler:ddim&y=seed:1") as visited:
        page = visited.page
        page.get_by_label("Across", exact=True).select_option("guidance")
        page.get_by_label("Across", exact=True).select_option("sampler")
        expect(page.get_by_label("Values across")).to_have_value("ddim, ddpm, dpmpp_2m")
