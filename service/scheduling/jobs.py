"""Job and ImageTask: an HTTP request and one of its images, as the engine works on them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from service.errors import ServiceError
from service.tracing.stages import Attribute, Stage

if TYPE_CHECKING:  # scheduling needs no torch
    from model.runner.flight import Flight
    from model.sampling.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Timings:
    """The seconds that one request spent in each of the engine's stages."""

    queue: float
    denoise: float
    decode: float


@dataclass(frozen=True, slots=True)
class JobResult:
    """The pixels of a request's images in order, uint8 (H, W, 3), and the time that they took."""

    pixels: list[np.ndarray]
    timings: Timings


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a request has come. ``previews`` are pairs of image index and pixels."""

    steps_done: int
    steps: int
    ahead_in_queue: int
    previews: tuple[tuple[int, np.ndarray], ...] = ()


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The most that a client may have admitted and unfinished at a time; None is no limit."""

    max_row_steps: int | None = None
    max_images: int | None = None


UNLIMITED = ClientLimits()


@functools.cache
def even_steps(steps: int, count: int) -> frozenset[int]:
    """``count`` steps that divide ``steps`` evenly, rounded; the last step is not among them.

    With few steps there are fewer.
    """
    parts = count + 1
    middles = ((2 * part * steps + parts) // (2 * parts) for part in range(1, parts))
    return frozenset(middles) - {0, steps}


@dataclass(slots=True, eq=False)
class Job:
    """One request. After admission only the engine's thread changes it, except for `cancelled`.

    Times are on the clock of `time.monotonic`. ``client`` identifies the sender, for fairness
    between clients and for ``client_limits``. ``future`` resolves to a JobResult or a ServiceError. There are previews after
    every ``preview_every``-th step, or ``preview_count`` at even steps; each counts as
    ``preview_row_steps``, which the admission sets.
    """

    id: str
    deadline: float
    admitted: float
    trajectories: tuple[Trajectory, ...]
    client: str = ""
    client_limits: ClientLimits = UNLIMITED
    preview_every: int = 0
    preview_count: int = 0
    on_progress: Callable[[Progress], None] | None = None
    future: Future[JobResult] = field(default_factory=Future)
    cancelled: bool = False
    preview_row_steps: int = 0
    previews_made: int = 0
    joined: float | None = None  # when the first of its images had its first tick
    denoised: float | None = None  # when the latest tick with one of its images was launched
    steps_done: int = 0  # of all its images
    decode_s: float = 0.0
    decode_began: float | None = None  # when the first pass of the decoder with one of them did
    decoded: float | None = None  # when the latest pass ended
    pixels: dict[int, np.ndarray] = field(default_factory=dict)  # finished images by index
    steps: int = field(init=False)  # of all its images
    ticks_at_least: int = field(init=False)  # its ticks, if all its images ran in parallel

    def __post_init__(self) -> None:
        lengths = [trajectory.steps for trajectory in self.trajectories]
        self.steps, self.ticks_at_least = sum(lengths), max(lengths)

    @property
    def row_steps(self) -> int:
        return sum(trajectory.row_steps for trajectory in self.trajectories)

    @property
    def work(self) -> int:
        """Its row-steps, with what its previews count as."""
        return self.row_steps + self.previews_planned * self.preview_row_steps

    @property
    def work_skipped(self) -> int:
        """The part of its work in previews that were not made."""
        return (self.previews_planned - self.previews_made) * self.preview_row_steps

    @property
    def previews_planned(self) -> int:
        if self.on_progress is None:
            return 0
        return sum(self._previews_in(trajectory.steps) for trajectory in self.trajectories)

    def has_preview_after(self, step: int, steps: int) -> bool:
        """Whether an image of ``steps`` steps is shown after this one."""
        if self.on_progress is None:
            return False
        if self.preview_every:
            return step % self.preview_every == 0
        return step in even_steps(steps, self.preview_count)

    def _previews_in(self, steps: int) -> int:
        if self.preview_every:
            return (steps - 1) // self.preview_every
        return len(even_steps(steps, self.preview_count))

    @property
    def timeout_s(self) -> float:
        """As the request or the server gave it, without the rounding of the clock."""
        return round(self.deadline - self.admitted, 6)

    @property
    def images_left(self) -> int:
        return len(self.trajectories) - len(self.pixels)

    @property
    def ticks_left_at_least(self) -> float:
        """Lower bound on the remaining ticks, if all its images ran in parallel."""
        mean_left = (self.steps - self.steps_done) / len(self.trajectories)
        return max(mean_left, self.ticks_at_least - self.steps_done)

    def stages(self) -> list[Stage]:
        """What it has been through so far. Several images may be in different stages at a time."""
        times = (
            ("queue", self.admitted, self.joined),
            ("denoise", self.joined, self.denoised),
            ("decode", self.decode_began, self.decoded),
        )
        return [
            Stage(name, began, ended)
            for name, began, ended in times
            if began is not None and ended is not None
        ]

    def describe(self) -> dict[str, Attribute]:
        """What a trace says of it, by OpenTelemetry's names for generative AI where they exist.

        https://github.com/open-telemetry/semantic-conventions-genai
        """
        return {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "dit",
            "gen_ai.output.type": "image",
            "gen_ai.request.choice.count": len(self.trajectories),
            "gen_ai.request.seed": self.trajectories[0].seed,
            "gen_ai.response.id": self.id,
            "dit.num_sampling_steps": self.ticks_at_least,
            "dit.row_steps": self.row_steps,
        }

    def cancel(self) -> None:
        """Stop working on this job at the next tick."""
        self.cancelled = True

    def fail(self, error: ServiceError) -> None:
        self.future.set_exception(error)

    def deliver(self, index: int, pixels: np.ndarray, now: float) -> None:
        """Take a finished image. The last one resolves the future."""
        self.pixels[index] = pixels
        if len(self.pixels) == len(self.trajectories):
            assert self.joined is not None, (
                "this is a bug: an image finished before its job started"
            )
            denoise = now - self.joined - self.decode_s
            timings = Timings(self.joined - self.admitted, denoise, self.decode_s)
            self.future.set_result(
                JobResult([self.pixels[i] for i in sorted(self.pixels)], timings)
            )


@dataclass(slots=True, eq=False)
class ImageTask:
    """One image of a job: waiting while it has no flight, then in flight."""

    job: Job
    index: int
    trajectory: Trajectory
    flight: Flight | None = None
    previewed: int = 0  # the steps it had done at its latest preview

    @property
    def steps_done(self) -> int:
        return self.flight.step if self.flight is not None else 0

    @property
    def row_steps_done(self) -> int:
        return sum(self.trajectory.rows[: self.steps_done])

    @property
    def next_rows(self) -> int:
        """Rows of its next step; 0 if it has none left."""
        return self.trajectory.rows_at(self.steps_done)


def flight_of(task: ImageTask) -> Flight:
    assert task.flight is not None, "this is a bug: the image is not in flight"
    return task.flight


def flights_of(tasks: Sequence[ImageTask]) -> list[Flight]:
    return [flight_of(task) for task in tasks]
