"""Warm-up: it finds out how many rows and decodes fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from model.runner.decoding import Pixels
from model.runner.runner import Flight, ModelRunner, OutOfMemory
from model.runner.warm_up import decodes_to_warm_up, trial_trajectories, warm_decoder
from tests.support.faulty import FaultyNetwork
from tests.support.networks import network_of
from tests.support.services import load_small_checkpoint


def runner_with_memory_for(folder: Path, most_rows: int, *, max_rows: int = 32) -> ModelRunner:
    checkpoint = load_small_checkpoint(folder)
    network = FaultyNetwork(network_of(checkpoint), most_rows=most_rows)
    return ModelRunner(checkpoint, network, max_rows=max_rows)


@pytest.mark.parametrize(
    ("most_rows", "max_rows", "achieved", "halvings"),
    [(32, 32, 32, 0), (31, 32, 16, 1), (9, 32, 8, 2), (2, 5, 2, 1), (2, 3, 2, 1)],
)
def test_max_rows_are_halved_until_they_fit(
    pipeline_folder: Path, most_rows: int, max_rows: int, achieved: int, halvings: int
) -> None:
    runner = runner_with_memory_for(pipeline_folder, most_rows, max_rows=max_rows)
    lines: list[str] = []
    runner.warm_up(lines.append)
    assert runner.max_rows == achieved
    assert runner.slots == 4 * achieved
    assert sum("out of memory" in line for line in lines) == halvings
    planned = trial_trajectories(runner.checkpoint.schedule, runner.slots)
    assert len({runner.join(trajectory).slot for trajectory in planned}) == runner.slots


def test_without_memory_for_a_guided_image_the_start_fails_with_one_clear_error(
    pipeline_folder: Path,
) -> None:
    runner = runner_with_memory_for(pipeline_folder, 1, max_rows=8)
    with pytest.raises(ValueError, match="not enough memory on cpu for 2 rows"):
        runner.warm_up(lambda line: None)


def test_the_warm_ups_ticks_are_not_reported_as_finished(pipeline_folder: Path) -> None:
    runner = runner_with_memory_for(pipeline_folder, 32)
    runner.warm_up(lambda line: None)
    assert runner.finished_ticks() == []


class DecodingRunner(ModelRunner):
    """Notes its decodes; more than ``fitting`` images run out of memory."""

    fitting = 8
    decodes: tuple[int, ...] = ()

    def decode(self, flights: Sequence[Flight]) -> Pixels:
        self.decodes += (len(flights),)
        if len(flights) > self.fitting:
            raise OutOfMemory(f"{len(flights)} images")
        return super().decode(flights)


@pytest.fixture
def runner(pipeline_folder: Path) -> DecodingRunner:
    checkpoint = load_small_checkpoint(pipeline_folder)
    return DecodingRunner(checkpoint, network_of(checkpoint), max_rows=8)


def test_every_number_of_images_that_can_share_a_pass_is_warmed_up_on_cuda(
    runner: DecodingRunner,
) -> None:
    counts = decodes_to_warm_up(torch.device("cuda"), 8)
    warm_decoder(runner, runner.checkpoint.schedule, counts, lambda line: None)
    assert set(runner.decodes) == set(range(1, 9))
    assert runner.decodes[0] == 8
    assert decodes_to_warm_up(torch.device("cpu"), 8) == [1, 8]


@pytest.mark.parametrize(("fitting", "at_once"), [(8, 8), (7, 4), (1, 1)])
def test_decodes_that_do_not_fit_limit_the_images_of_a_pass(
    runner: DecodingRunner, fitting: int, at_once: int
) -> None:
    runner.fitting = fitting
    warm_decoder(runner, runner.checkpoint.schedule, range(8, 0, -1), lambda line: None)
    assert runner.decoded_at_once == at_once
    assert set(runner.decodes) >= set(range(1, at_once + 1))


def test_a_decoder_without_memory_for_one_image_ends_the_start(runner: DecodingRunner) -> None:
    runner.fitting = 0
    with pytest.raises(ValueError, match="not enough memory"):
        runner.warm_up(lambda line: None)
    assert runner.max_rows == 2
