"""A service in reproducible mode, a picture of it, and a service that fails a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from model.runner.runner import Flight, ModelRunner
from tests.support.networks import network_of
from tests.support.requests import PICTURE, generate
from tests.support.services import (
    LIMITS,
    Running,
    load_small_checkpoint,
    load_small_runner,
    running_service,
)


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


class FailingRunner(ModelRunner):
    """Seed 666 fails at its third step."""

    def tick(self, flights: Sequence[Flight]) -> int:
        if any(flight.trajectory.seed == 666 and flight.step == 2 for flight in flights):
            raise RuntimeError("injected")
        return super().tick(flights)


@pytest.fixture(scope="module")
def failing(pipeline_folder: Path) -> Iterator[Running]:
    checkpoint = load_small_checkpoint(pipeline_folder)
    with running_service(
        lambda: FailingRunner(checkpoint, network_of(checkpoint), max_rows=8)
    ) as running:
        yield running
