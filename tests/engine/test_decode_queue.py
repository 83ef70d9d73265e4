"""Worker: finished images wait for the decoder, and nobody waits for them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from model.runner.decoding import Decoding
from model.runner.runner import Flight, TickTimes
from service.engine import decode_queue
from service.errors import ClientGone
from service.scheduling.pace import Pace
from tests.support.workbench import Bench, BrittleRunner, pixels


class NotingRunner(BrittleRunner):
    """Notes what the device works on."""

    noted: tuple[str, ...] = ()

    def tick(self, flights: Sequence[Flight]) -> int:
        self.noted += ("tick",)
        return super().tick(flights)

    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        self.noted += (f"decode {[flight.trajectory.seed for flight in flights]}",)
        return super().start_decode(flights)

    def start_preview(self, flights: Sequence[Flight]) -> Decoding:
        self.noted += ("preview",)
        return super().start_preview(flights)


SLOW_DECODER = TickTimes(1e-4, 1e-3, decode=10.0)


def slow_bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Bench, NotingRunner]:
    """Its pace says that an image decodes in 10 s, and a step has time for one pass."""
    monkeypatch.setattr(decode_queue, "PASS_S", 0.0)
    monkeypatch.setattr(Pace, "observe_decode", lambda self, images, seconds: None)
    bench = Bench(folder, NotingRunner, times=SLOW_DECODER)
    assert isinstance(bench.runner, NotingRunner)
    return bench, bench.runner


def test_a_slow_decoder_takes_one_image_at_a_time_and_ticks_go_on(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, runner = slow_bench(pipeline_folder, monkeypatch)
    short, long = bench.submit(1, 2, 3, steps=1), bench.submit(4, steps=4)
    for _ in range(4):
        bench.worker.step()
    assert runner.noted == (
        *("tick", "decode [1]"),
        *("tick", "decode [2]"),
        *("tick", "decode [3]"),
        *("tick", "decode [4]"),
    )
    assert len(pixels(short)) == 3
    assert pixels(long)


def test_jobs_take_turns_in_the_decoder(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, runner = slow_bench(pipeline_folder, monkeypatch)
    bench.submit(*range(10, 26), steps=20)
    while "decode [10]" not in runner.noted:
        bench.worker.step()
    newcomer = bench.submit(1, steps=1)
    for _ in range(2):
        bench.worker.step()
    assert pixels(newcomer)
    assert sum("decode" in each for each in runner.noted) == 3


def test_images_of_a_job_that_has_ended_are_not_decoded(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, runner = slow_bench(pipeline_folder, monkeypatch)
    gone = bench.submit(1, 2, 3, steps=1)
    bench.worker.step()
    gone.cancel()
    bench.finish()
    assert isinstance(gone.future.exception(timeout=0), ClientGone)
    assert runner.noted == ("tick", "decode [1]")
    assert bench.queue.row_steps == 0


def test_there_is_a_beat_after_everything_that_the_device_does(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ticks, repeated ticks, passes of the decoder and previews: the patience counts from each."""
    monkeypatch.setattr(Pace, "observe_decode", lambda self, images, seconds: None)
    done_at_beat = [0]
    bench = Bench(
        pipeline_folder,
        NotingRunner,
        times=SLOW_DECODER,
        beat=lambda: done_at_beat.append(len(runner.noted)),
    )
    assert isinstance(bench.runner, NotingRunner)
    runner = bench.runner
    runner.most_rows = 5
    bench.submit(*range(6), steps=3, preview_every=1, on_progress=lambda progress: None)
    bench.finish()
    assert {"tick", "preview"} < set(runner.noted)
    assert max(b - a for a, b in itertools.pairwise(done_at_beat)) == 1
    assert done_at_beat[-1] == len(runner.noted)
