"""Warm-up: the trial images that a runner starts with, and what their ticks take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from model.device import OutOfMemory
from model.runner.decoding import Pixels
from model.runner.flight import Flight
from model.sampling.parameters import WHOLE_RANGE, Sampling
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import Trajectory, plan_trajectory


@dataclass(frozen=True, slots=True)
class TickTimes:
    """Seconds of a tick of one row and of a full tick.

    A tick of one row is padded to ``least_rows``.
    """

    one_row: float
    full: float
    least_rows: int = 1


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

    def join(self, trajectory: Trajectory) -> Flight: ...
    def leave(self, flight: Flight) -> None: ...
    def tick(self, flights: Sequence[Flight]) -> int: ...
    def decode(self, flights: Sequence[Flight]) -> Pixels: ...
    def limit_decodes(self, images: int) -> None: ...
    def synchronize(self) -> None: ...
    def release_cached_memory(self) -> None: ...


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
    runner: Runner, schedule: NoiseSchedule, counts: Sequence[int], report: Callable[[str], None]
) -> None:
    """Decode as many images at once as ``counts`` says; what does not fit limits the decodes.

    Raises:
        OutOfMemory: not even one image fits.
    """
    most = max(counts)
    with _trial(runner, schedule, most) as flights:
        for count in counts:
            while not _fits(runner, flights[: min(count, most)]):
                most = min(count, most) // 2
                if most == 0:
                    raise OutOfMemory("decoding one image")
                runner.limit_decodes(most)
                runner.release_cached_memory()
                report(f"out of memory: from now on decodes of at most {most} images")


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
