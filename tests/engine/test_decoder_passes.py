"""Worker: images are decoded in passes, and each pass is delivered when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from model.runner.decoding import Decoding, Pixels
from model.runner.runner import Flight, OutOfMemory
from service.engine.progress import PASSES_PER_JOB
from service.scheduling.jobs import Progress
from tests.support.workbench import BAD_SEED, Bench, BrittleRunner, pixels

PASS_S = 0.25


class HeldDecoding(Decoding):
    """Done when the test says so."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self.finished = False

    @property
    def done(self) -> bool:
        return self.finished

    @property
    def device_seconds(self) -> float:
        return PASS_S

    def pixels(self) -> Pixels:
        self.finished = True
        return self._decoding.pixels()


class HeldRunner(BrittleRunner):
    """Its passes are done when the test says so. Passes of too many images do not fit."""

    most_images = 8
    held: tuple[HeldDecoding, ...] = ()
    sizes: tuple[int, ...] = ()

    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        if len(flights) > self.most_images:
            raise OutOfMemory(f"{len(flights)} images")
        return self._held(super().start_decode(flights), len(flights))

    def start_preview(self, flights: Sequence[Flight]) -> Decoding:
        return self._held(super().start_preview(flights), len(flights))

    def _held(self, decoding: Decoding, images: int) -> HeldDecoding:
        self.held += (HeldDecoding(decoding),)
        self.sizes += (images,)
        return self.held[-1]


def held(bench: Bench) -> HeldRunner:
    assert isinstance(bench.runner, HeldRunner)
    return bench.runner


@pytest.fixture
def bench(pipeline_folder: Path) -> Bench:
    return Bench(pipeline_folder, HeldRunner)


def test_images_that_end_together_are_delivered_pass_by_pass(bench: Bench) -> None:
    short = [bench.submit(seed, steps=1) for seed in range(12)]
    long = bench.submit(100, steps=9)
    bench.worker.step()
    assert held(bench).sizes == (8, 4)
    assert not any(job.future.done() for job in short)
    held(bench).held[0].finished = True
    bench.worker.step()
    assert sum(job.future.done() for job in short) == 8
    held(bench).held[1].finished = True
    bench.worker.step()
    assert all(pixels(job) for job in short)
    assert not long.future.done()


def test_a_pass_takes_the_devices_time_and_not_that_until_its_delivery(bench: Bench) -> None:
    short, long = bench.submit(*range(8), steps=1), bench.submit(9, steps=3)
    bench.finish()
    assert short.decode_s == long.decode_s == PASS_S
    assert bench.metric("dit_decode_duration_seconds_sum") == 2 * PASS_S
    assert bench.metric("dit_decode_duration_seconds_count") == 2


def test_an_arrival_does_not_wait_for_decodes(bench: Bench) -> None:
    first = bench.submit(*range(12), steps=1)
    bench.worker.step()
    second = bench.submit(100, steps=3)
    bench.worker._deliver_decoded(wait=True)
    assert not first.pixels
    bench.worker.step()
    assert second.steps_done == 1
    bench.finish()
    assert len(pixels(first)) == 12


def test_an_out_of_memory_lowers_the_images_decoded_at_once_from_then_on(bench: Bench) -> None:
    held(bench).most_images = 4
    for _ in range(2):
        jobs = [bench.submit(seed, steps=1) for seed in range(14)]
        bench.finish()
        assert all(pixels(job) for job in jobs)
    assert bench.metric("dit_out_of_memory_total") == 1
    assert held(bench).sizes == (4, 4, 4, 2) * 2


@pytest.mark.parametrize("images", range(1, 9))
def test_halves_of_any_pass_fit(pipeline_folder: Path, images: int) -> None:
    bench = Bench(pipeline_folder, HeldRunner)
    held(bench).most_images = 1
    job = bench.submit(*range(images), steps=1)
    bench.finish()
    assert len(pixels(job)) == images
    assert bench.runner.decoded_at_once == (1 if images > 1 else 8)


def test_a_preview_delays_no_tick_and_comes_with_a_later_report(bench: Bench) -> None:
    reports: list[Progress] = []
    job = bench.submit(1, steps=6, preview_every=2, on_progress=reports.append)
    for _ in range(3):
        bench.worker.step()
    assert job.steps_done == 3
    assert [(each.steps_done, each.previews) for each in reports] == [(1, ()), (2, ()), (3, ())]
    held(bench).held[0].finished = True
    bench.worker.step()
    assert reports[-1].steps_done == 4
    ((index, preview),) = reports[-1].previews
    assert index == 0
    assert preview.shape == (8, 8, 3)


def test_a_preview_of_an_image_that_is_set_aside_comes_when_it_is_done(
    pipeline_folder: Path,
) -> None:
    bench = Bench(pipeline_folder, HeldRunner, max_rows=2)
    reports: list[Progress] = []
    bench.submit(1, steps=9, preview_every=2, on_progress=reports.append)
    for _ in range(2):
        bench.worker.step()
    small = bench.submit(2, steps=4)
    bench.worker.step()
    assert [each.steps_done for each in reports] == [1, 2], "it was not set aside"
    held(bench).held[0].finished = True
    bench.worker.step()
    assert [(each.steps_done, len(each.previews)) for each in reports] == [(1, 0), (2, 0), (2, 1)]
    assert small.steps_done == 2


def test_no_preview_comes_after_the_image(bench: Bench) -> None:
    reports: list[Progress] = []
    job = bench.submit(1, steps=2, preview_every=1, on_progress=reports.append)
    other = bench.submit(2, steps=9)
    for _ in range(2):
        bench.worker.step()
    for each in held(bench).held:
        each.finished = True
    bench.worker.step()
    assert job.future.done()
    told = len(reports)
    bench.finish()
    assert pixels(other)
    assert len(reports) == told
    assert not any(each.previews for each in reports)


def test_a_slow_decoder_gets_no_backlog_of_previews(bench: Bench) -> None:
    job = bench.submit(1, steps=50, preview_every=1, on_progress=lambda progress: None)
    for _ in range(40):
        bench.worker.step()
    assert job.steps_done == 40
    assert len(held(bench).held) == PASSES_PER_JOB
    held(bench).held[0].finished = True
    bench.worker.step()
    bench.worker.step()
    assert len(held(bench).held) == PASSES_PER_JOB + 1


def test_a_failed_preview_is_left_out(pipeline_folder: Path) -> None:
    class NoPreviews(HeldRunner):
        def start_preview(self, flights: Sequence[Flight]) -> Decoding:
            if any(flight.trajectory.seed == BAD_SEED for flight in flights):
                raise RuntimeError("boom")
            return super().start_preview(flights)

    bench = Bench(pipeline_folder, NoPreviews)
    reports: list[Progress] = []
    job = bench.submit(1, BAD_SEED, steps=4, preview_every=2, on_progress=reports.append)
    bench.worker.step()
    bench.worker.step()
    held(bench).held[0].finished = True
    bench.finish()
    assert len(pixels(job)) == 2
    assert [index for each in reports for index, _ in each.previews] == [0]
