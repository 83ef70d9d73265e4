"""Faults stay where they belong: one image's fault costs the request it belongs to, no other."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from model.runner.runner import DeviceLost, Flight, OutOfMemory
from service.errors import ClientGone, DeadlinePassed, ImageFailed, Unavailable
from tests.support.networks import FunctionNetwork
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


def test_a_bad_image_takes_its_own_requests_other_images_along(bench: Bench) -> None:
    bench.runner.fault = RuntimeError("boom")
    bad = bench.submit(1, BAD_SEED, 2, 3)
    good = bench.submit(4)
    bench.finish()
    with pytest.raises(ImageFailed, match="image 1"):
        bad.future.result(timeout=0)
    assert len(pixels(good)) == 1
    assert bench.queue.row_steps == 0


def test_a_latent_that_is_not_finite_fails_its_request_alone(pipeline_folder: Path) -> None:
    dit = load_small_checkpoint(pipeline_folder).dit

    def sick_of_class_one(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = dit(x, t, y)
        return torch.where((y == 1).view(-1, 1, 1, 1), torch.nan, output)

    bench = Bench(pipeline_folder, network=FunctionNetwork(sick_of_class_one))
    bad, good = bench.submit(1), bench.submit(2)
    bench.finish()
    with pytest.raises(ImageFailed):
        bad.future.result(timeout=0)
    assert pixels(good)
    assert bench.metric("dit_nonfinite_images_total") == 1


def test_out_of_memory_by_sheer_size_fails_nobody(bench: Bench) -> None:
    bench.runner.most_rows = 5
    jobs = [bench.submit(seed) for seed in range(8)]
    bench.finish()
    assert all(pixels(job) for job in jobs)
    assert bench.metric("dit_out_of_memory_total") > 0


class OnceShortRunner(BrittleRunner):
    """Has no memory for its second and third tick, whatever is in them."""

    begun = 0

    def tick(self, flights: Sequence[Flight]) -> int:
        self.begun += 1
        if self.begun in (2, 3):
            raise OutOfMemory("taken by another program")
        return super().tick(flights)


def test_memory_that_was_short_for_a_moment_fails_nobody(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, OnceShortRunner)
    jobs = [bench.submit(seed) for seed in (1, 2)]
    bench.finish()
    assert all(pixels(job) for job in jobs)
    assert bench.metric("dit_out_of_memory_total") == 2


class HungryRunner(BrittleRunner):
    """Has memory for five rows at a time, and takes it before it finds that out."""

    held: weakref.WeakSet[torch.Tensor]
    seen_held: list[int]

    def tick(self, flights: Sequence[Flight]) -> int:
        self.seen_held.append(len(self.held))
        activations = torch.zeros(len(flights))
        self.held.add(activations)
        return super().tick(flights)


def test_a_failed_ticks_memory_is_free_before_its_halves_run(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, HungryRunner)
    assert isinstance(bench.runner, HungryRunner)
    bench.runner.held, bench.runner.seen_held = weakref.WeakSet(), []
    bench.runner.most_rows = 5
    jobs = [bench.submit(seed) for seed in range(8)]
    bench.finish()
    assert all(pixels(job) for job in jobs)
    assert bench.metric("dit_out_of_memory_total") > 0
    assert max(bench.runner.seen_held) == 0


def test_a_lost_device_is_no_single_images_fault(bench: Bench) -> None:
    bench.runner.fault = DeviceLost("gone")
    jobs = [bench.submit(BAD_SEED), bench.submit(1)]
    with pytest.raises(DeviceLost):
        bench.finish()
    bench.worker.abandon(Unavailable("device lost"))
    for job in jobs:
        with pytest.raises(Unavailable):
            job.future.result(timeout=0)


def test_a_cancelled_request_frees_its_rows_at_the_next_tick(bench: Bench) -> None:
    gone, stays = bench.submit(1, 2, 3, steps=100), bench.submit(4, steps=100)
    for _ in range(10):
        bench.worker.step(0.0)
    assert bench.metric("dit_requests_running") == 2
    gone.cancel()
    bench.worker.step(0.0)
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
    bench.worker.step(0.0)
    assert job.steps_done > 0
    assert not job.future.done()
    job.deadline = time.monotonic()  # as if that time were over
    bench.worker.step(0.0)
    with pytest.raises(DeadlinePassed):
        job.future.result(timeout=0)
    assert bench.metric("dit_images_total", outcome="timeout") == 1
    assert bench.queue.row_steps == 0


def test_stages_of_a_request_add_up_to_its_time(bench: Bench) -> None:
    began = time.monotonic()
    job = bench.submit(1, 2, 3, steps=2)
    bench.finish()
    timings = job.future.result(timeout=0).timings
    assert min(timings.queue, timings.denoise, timings.decode) >= 0
    assert timings.denoise > 0
    assert timings.queue + timings.denoise + timings.decode <= time.monotonic() - began


def test_useful_work_is_counted_where_pictures_came_of_it(bench: Bench) -> None:
    bench.submit(1, 2, steps=6)
    bench.finish()
    assert bench.metric("dit_denoise_steps_total", kind="useful") == 24
    assert bench.metric("dit_tick_rows_sum") == 24
    assert bench.metric("dit_tick_images_sum") == 12
    assert bench.metric("dit_tick_duration_seconds_count") == 6
    assert bench.metric("dit_decode_duration_seconds_count") == 1
    assert bench.metric("dit_queue_wait_seconds_count") == 1
