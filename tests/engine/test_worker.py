"""Worker: a failing image fails only its own request; timings and metrics."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from model.backends.network import Network
from model.runner.decoding import Decoding, Pixels
from model.runner.runner import DeviceLost, Flight, OutOfMemory
from model.sampling.trajectory import Trajectory
from service.engine.worker import REVIEWED_PER_STEP
from service.errors import ClientGone, DeadlinePassed, ImageFailed, Unavailable
from tests.support.networks import FunctionNetwork, network_of
from tests.support.services import load_small_checkpoint
from tests.support.workbench import BAD_SEED, Bench, BrittleRunner, pixels


@pytest.fixture
def bench(pipeline_folder: Path) -> Bench:
    return Bench(pipeline_folder)


def alone(folder: Path, seed: int) -> np.ndarray:
    bench = Bench(folder)
    job = bench.submit(seed)
    bench.finish()
    return pixels(job)[0]


@pytest.mark.parametrize("in_decode", [False, True])
@pytest.mark.parametrize("fault", [RuntimeError("boom"), OutOfMemory("boom")])
def test_only_the_request_of_a_bad_image_fails(
    bench: Bench, pipeline_folder: Path, fault: Exception, in_decode: bool
) -> None:
    bench.runner.fault, bench.runner.in_decode, bench.runner.at_step = fault, in_decode, 2
    good = [bench.submit(seed) for seed in range(6)]
    bad = bench.submit(BAD_SEED)
    bench.finish()
    with pytest.raises(ImageFailed, match="image 0"):
        bad.future.result(timeout=0)
    for seed, job in enumerate(good):
        off = np.abs(pixels(job)[0].astype(int) - alone(pipeline_folder, seed))
        assert off.max() <= 1
    assert bench.metric("dit_images_total", outcome="failed") == 1
    assert bench.metric("dit_images_total", outcome="ok") == 6
    assert bench.queue.row_steps == 0


def test_nothing_is_left_of_a_job_that_has_ended(bench: Bench) -> None:
    """Neither the job nor its pixels, while another one runs on."""
    runs = bench.submit(0, steps=200)
    for seed in range(10, 10 + 2 * REVIEWED_PER_STEP):
        bench.submit(seed, steps=200)
    done, gone = bench.submit(1, 2), bench.submit(3)
    gone.cancel()
    futures = [weakref.ref(each.future) for each in (done, gone)]
    while not done.future.done():
        bench.worker.step()
    shown = weakref.ref(pixels(done)[0])
    assert bench.metric("dit_images_total", outcome="ok") == 2
    del done, gone
    gc.collect()
    assert [future() for future in futures] == [None, None]
    assert shown() is None
    assert not runs.future.done()


def test_a_picture_keeps_only_its_own_pixels(bench: Bench) -> None:
    job = bench.submit(*range(8))
    bench.finish()
    assert all(image.base is None for image in pixels(job))


def test_a_bad_image_fails_the_other_images_of_its_request(bench: Bench) -> None:
    bench.runner.fault = RuntimeError("boom")
    bad = bench.submit(1, BAD_SEED, 2, 3)
    good = bench.submit(4)
    bench.finish()
    with pytest.raises(ImageFailed, match="image 1"):
        bad.future.result(timeout=0)
    assert len(pixels(good)) == 1
    assert bench.queue.row_steps == 0


def nan_for_class_one(folder: Path) -> Network:
    dit = load_small_checkpoint(folder).dit

    def network(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = dit(x, t, y)
        return torch.where((y == 1).view(-1, 1, 1, 1), torch.nan, output)

    return FunctionNetwork(network)


class TrackingRunner(BrittleRunner):
    """Checks that each slot holds at most one image."""

    taken: frozenset[int] = frozenset()

    def join(self, trajectory: Trajectory) -> Flight:
        flight = super().join(trajectory)
        assert flight.slot not in self.taken
        self.taken |= {flight.slot}
        return flight

    def leave(self, flight: Flight) -> None:
        assert flight.slot in self.taken
        self.taken -= {flight.slot}
        super().leave(flight)


@pytest.mark.parametrize("seeds", [(1,), (1, 2), (2, 1), (1, 6), (0, 1, 2)])
def test_an_image_that_is_not_finite_fails_only_its_request(
    pipeline_folder: Path, seeds: tuple[int, ...]
) -> None:
    network = nan_for_class_one(pipeline_folder)
    bench = Bench(pipeline_folder, TrackingRunner, network=network)
    assert isinstance(bench.runner, TrackingRunner)
    bad, good = bench.submit(*seeds), bench.submit(3)
    bench.finish()
    with pytest.raises(ImageFailed, match=f"image {seeds.index(1)}"):
        bad.future.result(timeout=0)
    assert pixels(good)
    images = sum(seed % 5 == 1 for seed in seeds)
    assert bench.metric("dit_nonfinite_images_total") == images
    assert bench.metric("dit_decode_duration_seconds_count") == 1, "they were not decoded together"
    assert bench.queue.row_steps == 0
    assert not bench.runner.taken


class BrieflyShortRunner(BrittleRunner):
    """Runs out of memory in its second and third tick, whatever they hold."""

    begun = 0

    def tick(self, flights: Sequence[Flight]) -> int:
        self.begun += 1
        if self.begun in (2, 3):
            raise OutOfMemory("taken by another program")
        return super().tick(flights)


def test_a_momentary_shortage_of_memory_fails_no_request(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, BrieflyShortRunner)
    jobs = [bench.submit(seed) for seed in (1, 2)]
    bench.finish()
    assert all(pixels(job) for job in jobs)
    assert bench.metric("dit_out_of_memory_total") == 2


class HungryNetwork(FunctionNetwork):
    """Allocates memory, then fails if there are more than five rows."""

    def __init__(self, network: Network) -> None:
        self.held: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
        super().__init__(network)

    def __call__(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        activations = torch.zeros(len(x))
        self.held.add(activations)
        if len(x) > 5:
            raise torch.OutOfMemoryError(f"{len(x)} rows")
        return super().__call__(x, t, y)


class ReleasingRunner(BrittleRunner):
    """Counts the tensors still held whenever cached memory is released."""

    held: weakref.WeakSet[torch.Tensor]
    seen_held: list[int]

    def release_cached_memory(self) -> None:
        self.seen_held.append(len(self.held))
        super().release_cached_memory()


def test_a_failed_ticks_tensors_are_freed_before_cached_memory_is_released(
    pipeline_folder: Path,
) -> None:
    network = HungryNetwork(network_of(load_small_checkpoint(pipeline_folder)))
    bench = Bench(pipeline_folder, ReleasingRunner, network=network)
    assert isinstance(bench.runner, ReleasingRunner)
    bench.runner.held, bench.runner.seen_held = network.held, []
    jobs = [bench.submit(seed) for seed in range(8)]
    bench.finish()
    assert all(pixels(job) for job in jobs)
    assert len(bench.runner.seen_held) == bench.metric("dit_out_of_memory_total") > 0
    assert max(bench.runner.seen_held) == 0


def test_a_lost_device_fails_every_request(bench: Bench) -> None:
    bench.runner.fault = DeviceLost("gone")
    jobs = [bench.submit(BAD_SEED), bench.submit(1)]
    with pytest.raises(DeviceLost):
        bench.finish()
    bench.worker.abandon(Unavailable("device lost"))
    for job in jobs:
        with pytest.raises(Unavailable):
            job.future.result(timeout=0)


def test_abandoning_also_answers_jobs_that_were_not_taken_yet(bench: Bench) -> None:
    running = bench.submit(1, 2)
    bench.worker.step()
    waiting = bench.submit(3)
    bench.worker.abandon(Unavailable("over"))
    for job in (running, waiting):
        assert isinstance(job.future.exception(timeout=0), Unavailable)
    assert bench.metric("dit_images_total", outcome="cancelled") == 3
    assert bench.metric("dit_requests_running") == 0
    assert bench.metric("dit_row_steps_waiting") == 0
    assert not bench.worker.busy


def test_a_cancelled_request_frees_its_rows_at_the_next_tick(bench: Bench) -> None:
    gone, stays = bench.submit(1, 2, 3, steps=100), bench.submit(4, steps=100)
    for _ in range(10):
        bench.worker.step()
    assert bench.metric("dit_requests_running") == 2
    gone.cancel()
    bench.worker.step()
    with pytest.raises(ClientGone):
        gone.future.result(timeout=0)
    assert bench.metric("dit_requests_running") == 1
    assert bench.metric("dit_images_total", outcome="cancelled") == 3
    assert bench.metric("dit_denoise_steps_total", kind="cancelled") == 3 * 10 * 2
    assert bench.queue.row_steps == 2 * (100 - 11)
    stays.cancel()
    bench.finish()


def test_a_passed_deadline_ends_a_request_and_frees_its_rows(bench: Bench) -> None:
    job = bench.submit(1, steps=1000, timeout_s=600.0)
    bench.worker.step()
    assert job.steps_done > 0
    assert not job.future.done()
    job.admitted -= 600.0  # as if the timeout had passed
    job.deadline -= 600.0
    bench.worker.step()
    with pytest.raises(DeadlinePassed):
        job.future.result(timeout=0)
    assert bench.metric("dit_images_total", outcome="timeout") == 1
    assert bench.queue.row_steps == 0


def test_the_stages_of_a_request_fit_into_its_time(bench: Bench) -> None:
    began = time.monotonic()
    job = bench.submit(1, 2, 3, steps=2)
    bench.finish()
    timings = job.future.result(timeout=0).timings
    assert min(timings.queue, timings.denoise, timings.decode) >= 0
    assert timings.denoise > 0
    assert timings.queue + timings.denoise + timings.decode <= time.monotonic() - began


def test_the_steps_of_finished_images_count_as_useful(bench: Bench) -> None:
    bench.submit(1, 2, steps=6)
    bench.finish()
    assert bench.metric("dit_denoise_steps_total", kind="useful") == 24
    assert bench.metric("dit_tick_rows_sum") == 24
    assert bench.metric("dit_tick_images_sum") == 12
    assert bench.metric("dit_tick_duration_seconds_count") == 6
    assert bench.metric("dit_decode_duration_seconds_count") == 1
    assert bench.metric("dit_queue_wait_seconds_count") == 1


@pytest.mark.parametrize(("max_rows", "decodes"), [(32, 1), (2, 3)])
def test_a_requests_timings_agree_with_the_metrics(
    pipeline_folder: Path, max_rows: int, decodes: int
) -> None:
    bench = Bench(pipeline_folder, max_rows=max_rows)
    began = time.monotonic()
    job = bench.submit(1, 2, 3)
    bench.finish()
    seconds = time.monotonic() - began
    timings = job.future.result(timeout=0).timings
    assert bench.metric("dit_decode_duration_seconds_count") == decodes
    assert timings.decode == pytest.approx(bench.metric("dit_decode_duration_seconds_sum"))
    assert timings.queue == pytest.approx(bench.metric("dit_queue_wait_seconds_sum"))
    ticks_s = bench.metric("dit_tick_duration_seconds_sum")
    assert 0 < ticks_s <= timings.denoise + timings.decode <= seconds


def test_device_memory_is_reported(pipeline_folder: Path) -> None:
    class MeasuredRunner(BrittleRunner):
        def memory_bytes(self) -> dict[str, int]:
            return {"allocated": 3, "reserved": 5}

    bench = Bench(pipeline_folder, MeasuredRunner)
    bench.worker.step()
    assert bench.metric("dit_gpu_memory_bytes", kind="allocated") == 3
    assert bench.metric("dit_gpu_memory_bytes", kind="reserved") == 5


def test_device_memory_is_read_once_a_second(pipeline_folder: Path) -> None:
    class CountingRunner(BrittleRunner):
        reads = 0

        def memory_bytes(self) -> dict[str, int]:
            self.reads += 1
            return {"allocated": self.reads}

    now = time.monotonic()
    bench = Bench(pipeline_folder, CountingRunner, clock=lambda: now)
    bench.submit(1, steps=30)
    for expected in (1, 2):
        for _ in range(10):
            bench.worker.step()
            now += 0.05
        assert bench.metric("dit_gpu_memory_bytes", kind="allocated") == expected
        now += 0.5


class LateDecoding(Decoding):
    """Not done until its pixels are asked for."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding

    @property
    def done(self) -> bool:
        return False

    @property
    def device_seconds(self) -> float | None:
        return self._decoding.device_seconds

    def pixels(self) -> Pixels:
        return self._decoding.pixels()


class LateRunner(TrackingRunner):
    """Its decodes finish only when nothing else is left to do."""

    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        return LateDecoding(super().start_decode(flights))


def test_a_running_decode_does_not_delay_ticks(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, LateRunner)
    short, long = bench.submit(1, 2, steps=1), bench.submit(3, steps=4)
    for _ in range(4):
        bench.worker.step()
    assert long.steps_done == 4
    assert not short.future.done()
    bench.worker.step()
    assert len(pixels(short)) == 2
    assert len(pixels(long)) == 1


@pytest.mark.parametrize("bad_seed", [1, 2])
def test_a_client_that_leaves_during_the_decode_cancels_only_its_request(
    pipeline_folder: Path, bad_seed: int
) -> None:
    """Even if one of its images is not finite."""
    bench = Bench(pipeline_folder, LateRunner, network=nan_for_class_one(pipeline_folder))
    assert isinstance(bench.runner, LateRunner)
    gone, stays = bench.submit(bad_seed, 3, steps=1), bench.submit(4, steps=3)
    bench.worker.step()
    gone.cancel()
    bench.worker.step()
    assert isinstance(gone.future.exception(timeout=0), ClientGone)
    bench.finish()
    assert pixels(stays)
    assert bench.metric("dit_images_total", outcome="cancelled") == 2
    assert bench.metric("dit_images_total", outcome="failed") == 0
    assert bench.queue.row_steps == 0
    assert not bench.runner.taken
