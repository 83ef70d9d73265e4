"""Worker: on a device that lags behind the host, the pace and the choice of images follow the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from model.runner.runner import Flight
from model.runner.tick_log import TICKS_AHEAD, TickLog
from service.scheduling.jobs import Job
from tests.model.runner.fake_events import FakeDevice, fake_events
from tests.support.workbench import Bench, BrittleRunner

BASE_MS, ROW_MS = 20.0, 5.0


class LaggingRunner(BrittleRunner):
    """Queues its ticks on a fake device, as on CUDA: the host has no part in their time."""

    device_of_time: FakeDevice

    def lag_on(self, device: FakeDevice) -> None:
        self.device_of_time = device
        self._log = TickLog(torch.device("cuda"))

    def _launch(self, flights: list[Flight]) -> None:
        super()._launch(flights)
        self.device_of_time.launch(BASE_MS + ROW_MS * sum(flight.rows for flight in flights))


@pytest.fixture
def lagging(pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Bench, FakeDevice]:
    bench, device = Bench(pipeline_folder, LaggingRunner), fake_events(monkeypatch)
    assert isinstance(bench.runner, LaggingRunner)
    bench.runner.lag_on(device)
    return bench, device


def run(bench: Bench, seeds: Sequence[int], *, steps: int) -> None:
    bench.submit(*seeds, steps=steps)
    bench.finish()


@pytest.mark.parametrize("steps", [1, 2, 4, 50])
def test_the_pace_is_the_devices_whatever_the_steps(
    lagging: tuple[Bench, FakeDevice], steps: int
) -> None:
    bench, device = lagging
    for seed in range(200 // steps):
        run(bench, (seed, seed + 1000), steps=steps)
        device.now = max(device.now, device.busy_until)  # the decode has waited for the ticks
        bench.worker.step()
    truth = (BASE_MS + 4 * ROW_MS) / 1e3
    assert bench.pace.tick_seconds(4) == pytest.approx(truth, rel=0.02)
    count = bench.metric("dit_tick_duration_seconds_count")
    assert count == 200 // steps * steps
    assert bench.metric("dit_tick_duration_seconds_sum") == pytest.approx(count * truth)


def test_a_tick_counts_as_launched_before_its_time_is_known(
    lagging: tuple[Bench, FakeDevice],
) -> None:
    bench, device = lagging
    job = bench.submit(1, steps=9)
    bench.worker.step()
    assert job.steps_done == 1
    assert bench.metric("dit_tick_rows_count") == 1
    assert bench.metric("dit_tick_duration_seconds_count") == 0
    device.now = device.busy_until
    bench.worker.step()
    assert bench.metric("dit_tick_duration_seconds_count") == 1


def waiting(lagging: tuple[Bench, FakeDevice], act: Callable[[Bench, Job], object]) -> Job:
    """A job of which two ticks are on the device; ``act`` while the worker waits to launch a third."""
    bench, device = lagging
    job = bench.submit(1, steps=9)
    for _ in range(TICKS_AHEAD):
        bench.worker.step()
    assert not device.waited_for
    device.while_waiting = lambda: act(bench, job)
    bench.worker.step()
    assert len(device.waited_for) == 1
    return job


def test_a_job_that_arrives_while_the_device_is_busy_joins_the_next_tick(
    lagging: tuple[Bench, FakeDevice],
) -> None:
    arrived: list[Job] = []
    job = waiting(lagging, lambda bench, _: arrived.append(bench.submit(2, steps=9)))
    assert [each.steps_done for each in (job, *arrived)] == [3, 1]


def test_a_job_that_is_cancelled_while_the_device_is_busy_has_no_further_tick(
    lagging: tuple[Bench, FakeDevice],
) -> None:
    job = waiting(lagging, lambda _, job: setattr(job, "cancelled", True))
    assert job.steps_done == TICKS_AHEAD
    assert job.future.done()
