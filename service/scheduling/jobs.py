"""Job and Sample: one HTTP request, and one image of it, on their way through the engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from service.errors import ServiceError

if TYPE_CHECKING:  # scheduling needs no torch
    from model.runner.runner import Flight
    from model.sampling.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds one request spent in the engine's stages."""

    queue: float
    denoise: float
    decode: float


@dataclass(frozen=True, slots=True)
class JobResult:
    """Pixels (H, W, 3) uint8 of every image of a request, in order, and what they took."""

    pixels: list[np.ndarray]
    timings: Timings


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a request has come; ``previews`` are (image index, pixels) where asked for."""

    steps_done: int
    steps: int
    ahead_in_queue: int
    previews: tuple[tuple[int, np.ndarray], ...] = ()


@dataclass(slots=True, eq=False)
class Job:
    """One request. The engine's thread alone changes it after admission, but for `cancelled`.

    Times are of `time.monotonic`. ``client`` tells whose it is, for fairness between them.
    ``future`` ends with a JobResult or a ServiceError.
    """

    id: str
    deadline: float
    admitted: float
    trajectories: tuple[Trajectory, ...]
    client: str = ""
    preview_every: int = 0
    on_progress: Callable[[Progress], None] | None = None
    future: Future[JobResult] = field(default_factory=Future)
    cancelled: bool = False
    joined: float | None = None  # its first image's first tick
    steps_done: int = 0  # of all its images
    decode_s: float = 0.0
    pixels: dict[int, np.ndarray] = field(default_factory=dict)  # by image index, as they come out

    @property
    def row_steps(self) -> int:
        return sum(trajectory.row_steps for trajectory in self.trajectories)

    @property
    def steps(self) -> int:
        return sum(trajectory.steps for trajectory in self.trajectories)

    @property
    def ticks_at_least(self) -> float:
        """Ticks to its end at the very least: the steps left of its images, all side by side."""
        return (self.steps - self.steps_done) / len(self.trajectories)

    def cancel(self) -> None:
        """Stop working for a client that left, at the next tick."""
        self.cancelled = True

    def fail(self, error: ServiceError) -> None:
        self.future.set_exception(error)

    def deliver(self, index: int, pixels: np.ndarray, now: float) -> None:
        """Take one finished image; the last one ends the future."""
        self.pixels[index] = pixels
        if len(self.pixels) == len(self.trajectories):
            assert self.joined is not None, "this is a bug: an image came out before it went in"
            denoise = now - self.joined - self.decode_s
            timings = Timings(self.joined - self.admitted, denoise, self.decode_s)
            self.future.set_result(
                JobResult([self.pixels[i] for i in sorted(self.pixels)], timings)
            )


@dataclass(slots=True, eq=False)
class Sample:
    """One image of a job: waiting while it has no flight, then in flight."""

    job: Job
    index: int
    trajectory: Trajectory
    flight: Flight | None = None

    @property
    def steps_done(self) -> int:
        return self.flight.step if self.flight is not None else 0

    @property
    def row_steps_left(self) -> int:
        return sum(self.trajectory.rows[self.steps_done :])

    @property
    def row_steps_done(self) -> int:
        return self.trajectory.row_steps - self.row_steps_left

    @property
    def rows_next(self) -> int:
        """Rows of its next step; 0 when it has none left."""
        rows, done = self.trajectory.rows, self.steps_done
        return rows[done] if done < len(rows) else 0
