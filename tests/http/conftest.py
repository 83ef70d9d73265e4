"""A service in reproducible mode, and a picture of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model.runner.runner import ModelRunner
from tests.support.requests import PICTURE, generate
from tests.support.services import LIMITS, Running, load_small_runner, running_service


@pytest.fixture(scope="module")
def exact(pipeline_folder: Path) -> Iterator[Running]:
    """A service in reproducible mode."""

    def load() -> ModelRunner:
        return load_small_runner(pipeline_folder, max_rows=8, reproducible=True)

    with running_service(load, limits=replace(LIMITS, reproducible=True)) as running:
        yield running


@pytest.fixture(scope="module")
def file(exact: Running) -> bytes:
    return generate(exact, PICTURE | {"class_label": "damson plum"}).content
