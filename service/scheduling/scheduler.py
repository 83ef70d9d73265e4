"""Scheduler: chooses the images that the next tick advances."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from service.scheduling.jobs import Job, Sample


class Scheduler(Protocol):
    """What the worker asks of a scheduling policy. It knows nothing of tensors."""

    @property
    def row_limit(self) -> int:
        """The most rows `pick` gives a tick now."""

    @property
    def running(self) -> int:
        """How many jobs have an image in flight."""

    @property
    def waiting(self) -> int:
        """How many jobs have none."""

    def jobs(self) -> Collection[Job]:
        """Every job that has an image to come."""

    def ahead_of(self, job: Job) -> int:
        """How many of the jobs without an image in flight go before this one of them."""

    def add(self, job: Job) -> None:
        """Take a job in."""

    def pick(self) -> list[Sample]:
        """The images of the next tick. Asking changes nothing."""

    def served(self, samples: Sequence[Sample]) -> None:
        """These, of those picked last, are in flight and one step further."""

    def shrink(self, rows: int) -> None:
        """A tick of ``rows`` rows did not fit into memory."""

    def finish(self, sample: Sample) -> None:
        """An image is done and out of the runner."""

    def drop(self, job: Job) -> list[Sample]:
        """Forget a job; returns its images that were still to come."""
