"""A browser, and services to look at: one that runs, one whose steps wait, one that is exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.requests import gated_service
from tests.support.services import (
    LIMITS,
    GatedRunner,
    Running,
    load_small_runner,
    running_service,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    from tests.support.browser import open_browser

    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="package")
def exact(pipeline_folder: Path) -> Iterator[Running]:
    """A service in reproducible mode."""
    with running_service(
        lambda: load_small_runner(pipeline_folder, reproducible=True),
        limits=replace(LIMITS, reproducible=True),
    ) as running:
        yield running


@pytest.fixture
def gated(pipeline_folder: Path) -> Iterator[tuple[Running, GatedRunner]]:
    """A service whose steps wait for the test."""
    with gated_service(pipeline_folder) as running:
        yield running
