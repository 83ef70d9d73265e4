"""Warm-up: the trial images that a runner starts with, and what their ticks take."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from model.device import OutOfMemory, device_faults
from model.runner.decoding import Pixels
from model.runner.flight import Flight
from model.runner.row_counts import RowCounts
from model.sampling.parameters import WHOLE_RANGE, Sampling
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import Trajectory, plan_trajectory
from model.weights.checkpoint import Checkpoint

LEAST_ROWS = 2
"""What a guided image takes: without room for these there is nothing to serve."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TickTimes:
    """Seconds of a tick of one row, of a full tick, and of decoding an image in company.

    A tick of one row is padded to ``least_rows``.
    """

    one_row: float
    full: float
    least_rows: int = 1
    decode: float = 0.0


def trial_trajectories(schedule: NoiseSchedule, count: int) -> list[Trajectory]:
    """Unguided images with different timesteps, as in a mixed tick, as far as the schedule has them."""
    different = min(64, schedule.num_train_timesteps - 1)
    return [
        plan_trajectory(
            schedule,
            Sampling(
                class_label=0,
                cfg_scale=1.0,
                num_sampling_steps=2 + seed % different,
                sampler="ddpm",
                seed=seed,
                guidance_interval=WHOLE_RANGE,
            ),
        )
        for seed in range(count)
    ]


class Runner(Protocol):
    """What a warm-up needs from a runner."""

    checkpoint: Checkpoint
    device: torch.device
    max_rows: int
    row_counts: RowCounts

    @property
    def decoded_at_once(self) -> int: ...
    def join(self, trajectory: Trajectory) -> Flight: ...
    def leave(self, flight: Flight) -> None: ...
    def tick(self, flights: Sequence[Flight]) -> int: ...
    def decode(self, flights: Sequence[Flight]) -> Pixels: ...
    def limit_decodes(self, images: int) -> None: ...
    def synchronize(self) -> None: ...
    def release_cached_memory(self) -> None: ...
    def record(self, report: Report) -> None: ...
    def forget_recordings(self) -> None: ...
    def forget_ticks(self) -> None: ...
    def limit_rows(self, max_rows: int) -> None: ...


def warm_up(runner: Runner, report: Report) -> TickTimes:
    """Warm up with as many rows as the memory has room for: see `ModelRunner.warm_up`."""
    while (times := _warm_up_if_it_fits(runner, report)) is None:
        gc.collect()  # what the failed attempt held
        runner.release_cached_memory()
        if runner.max_rows <= LEAST_ROWS:
            raise ValueError(f"not enough memory on {runner.device} for {runner.max_rows} rows")
        runner.limit_rows(max(LEAST_ROWS, runner.max_rows // 2))
        report(f"out of memory: from now on ticks of at most {runner.max_rows} rows")
    return times


def _warm_up_if_it_fits(runner: Runner, report: Report) -> TickTimes | None:
    """One attempt at the runner's ``max_rows``; None if the memory does not suffice."""
    try:
        with device_faults():
            return _warm_up_once(runner, report)
    except OutOfMemory:
        runner.forget_recordings()
        return None
    finally:
        runner.forget_ticks()  # trials tell nothing of the ticks to come


def _warm_up_once(runner: Runner, report: Report) -> TickTimes:
    report("warming up")
    schedule = runner.checkpoint.schedule
    tick_seconds(runner, schedule, 1)  # the very first tick builds what all later ones use
    runner.record(report)
    seconds = [tick_seconds(runner, schedule, rows) for rows in runner.row_counts.to_warm_up()]
    most = min(runner.decoded_at_once, runner.max_rows)
    passes = decodes_to_warm_up(runner.device, most)
    decode = warm_decoder(runner, schedule, passes, report)
    one_row, full = seconds[0], seconds[-1]
    report(f"tick of 1 row: {one_row * 1e3:.1f} ms, of {runner.max_rows} rows: {full * 1e3:.1f} ms")
    least_rows = runner.row_counts.padded(1)
    return TickTimes(min(one_row, full), full, least_rows=least_rows, decode=decode)


def tick_seconds(runner: Runner, schedule: NoiseSchedule, rows: int) -> float:
    """Seconds of a tick; a fast one is timed again, as the first may have included building."""
    with _trial(runner, schedule, rows) as flights:
        seconds = _seconds(runner, flights)
        return seconds if seconds >= 1.0 else _seconds(runner, flights)


def decodes_to_warm_up(device: torch.device, most: int) -> list[int]:
    """Numbers of images that the decoder is warmed up for: on CUDA, all that can share a pass.

    The largest comes first there, and its memory serves the others. Padding every pass to one of a
    few numbers instead would save half of this warm-up, 36 images in all, and decode up to three
    images for nothing whenever five are finished.
    """
    return list(range(most, 0, -1)) if device.type == "cuda" else [1, most]


def warm_decoder(
    runner: Runner, schedule: NoiseSchedule, counts: Sequence[int], report: Report
) -> float:
    """Decode as many images at once as ``counts`` says; what does not fit limits the decodes.

    Returns:
        The seconds per image of the fastest pass.

    Raises:
        OutOfMemory: not even one image fits.
    """
    most = max(counts)
    fastest = math.inf
    with _trial(runner, schedule, most) as flights:
        for count in counts:
            while True:
                part = flights[: min(count, most)]
                began = time.perf_counter()
                if _fits(runner, part):
                    fastest = min(fastest, (time.perf_counter() - began) / len(part))
                    break
                most = min(count, most) // 2
                if most == 0:
                    raise OutOfMemory("decoding one image")
                runner.limit_decodes(most)
                runner.release_cached_memory()
                report(f"out of memory: from now on decodes of at most {most} images")
    return fastest


@contextmanager
def _trial(runner: Runner, schedule: NoiseSchedule, count: int) -> Iterator[list[Flight]]:
    """Trial images, in flight during the block."""
    flights = [runner.join(trajectory) for trajectory in trial_trajectories(schedule, count)]
    try:
        yield flights
    finally:
        for flight in flights:
            runner.leave(flight)


def _seconds(runner: Runner, flights: Sequence[Flight]) -> float:
    began = time.perf_counter()
    runner.tick(flights)
    runner.synchronize()
    return time.perf_counter() - began


def _fits(runner: Runner, flights: Sequence[Flight]) -> bool:
    try:
        runner.decode(flights)
    except OutOfMemory:
        return False
    return True
