"""Slots: more images in flight than there are places in the buffers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.runner.runner import Flight, ModelRunner
from model.runner.warm_up import trial_trajectories
from tests.support.services import load_small_runner


@pytest.fixture(scope="module")
def runner(pipeline_folder: Path) -> ModelRunner:
    return load_small_runner(pipeline_folder, max_rows=2)


def run(runner: ModelRunner, flights: list[Flight]) -> list[np.ndarray]:
    """One image takes a step at each tick, in turn, until all are done."""
    while not all(flight.done for flight in flights):
        for flight in flights:
            if not flight.done:
                runner.tick([flight])
    pixels = [runner.decode([flight])[0] for flight in flights]
    for flight in flights:
        runner.leave(flight)
    return [image for image in pixels if image is not None]


def test_images_beyond_the_slots_become_what_they_would_alone(runner: ModelRunner) -> None:
    planned = trial_trajectories(runner.checkpoint.schedule, 2 * runner.slots + 1)
    alone = [run(runner, [runner.join(each)])[0] for each in planned]
    together = run(runner, [runner.join(each) for each in planned])
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_every_slot_is_free_when_the_images_have_left(runner: ModelRunner) -> None:
    planned = trial_trajectories(runner.checkpoint.schedule, runner.slots + 3)
    for _ in range(2):
        flights = [runner.join(each) for each in planned]
        assert sum(flight.parked is not None for flight in flights) == 3
        runner.tick(flights[-2:])
        assert len({flight.slot for flight in flights if flight.parked is None}) == runner.slots
        for flight in flights:
            runner.leave(flight)


def test_a_preview_of_a_parked_image_is_its_own(runner: ModelRunner) -> None:
    first, *others = [
        runner.join(each)
        for each in trial_trajectories(runner.checkpoint.schedule, 1 + 2 * runner.slots)
    ]
    runner.tick([first])
    before = runner.start_preview([first]).pixels()[0]
    for flight in others:
        runner.tick([flight])
    assert first.parked is not None
    after = runner.start_preview([first]).pixels()[0]
    assert before is not None
    assert after is not None
    assert np.array_equal(before, after)
    for flight in (first, *others):
        runner.leave(flight)
