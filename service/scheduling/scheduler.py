"""Scheduler: chooses the images that the next tick advances."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from service.scheduling.jobs import ImageTask, Job
from service.scheduling.pace import Pace


class Scheduler(Protocol):
    """What the worker needs from a scheduler. Schedulers know nothing of tensors."""

    @property
    def row_limit(self) -> int:
        """The most rows that `pick` now gives a tick."""

    @property
    def running(self) -> int:
        """The number of jobs with an image in flight."""

    @property
    def waiting(self) -> int:
        """The number of jobs without one."""

    def jobs(self) -> Collection[Job]:
        """Every job with an unfinished image."""

    def ahead_of(self, job: Job) -> int:
        """How many of the waiting jobs go before this waiting job."""

    def add(self, job: Job) -> None:
        """Add a job."""

    def pick(self) -> list[ImageTask]:
        """The images of the next tick. Calling it changes nothing."""

    def advanced(self, tasks: Sequence[ImageTask]) -> None:
        """These, of those picked last, are in flight and one step further."""

    def charge(self, row_steps: int) -> None:
        """The device did this work for a job outside of ticks."""

    def shrink(self, rows: int) -> None:
        """A tick of ``rows`` rows did not fit into memory."""

    def finish(self, task: ImageTask) -> None:
        """Forget a finished image; its slot becomes free."""

    def drop(self, job: Job) -> list[ImageTask]:
        """Forget a job; returns its unfinished images."""


MakeScheduler = Callable[[Pace, Callable[[], float]], Scheduler]
"""Builds a scheduler from the pace of its device, whose ticks it fills, and the clock of the jobs' times."""
