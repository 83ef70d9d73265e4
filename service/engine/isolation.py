"""Isolation: work for several images at once fails only the image that caused the failure."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from model.device import DeviceLost, OutOfMemory
from model.runner.runner import ModelRunner
from service.metrics import Metrics
from service.scheduling.jobs import ImageTask

Result = TypeVar("Result")


class NotFinite(ArithmeticError):
    """An image's latent holds NaN or infinity."""


class Isolation:
    """Repeats failed work in halves until the image at fault is alone.

    After an out-of-memory the halves run one after the other, and an image that runs out of memory
    alone gets one more attempt, because another program may have held the memory for a moment. So
    size alone fails no image.
    """

    def __init__(self, runner: ModelRunner, metrics: Metrics) -> None:
        self._runner = runner
        self._metrics = metrics

    def run(
        self,
        tasks: Sequence[ImageTask],
        work: Callable[[Sequence[ImageTask]], Result],
        done: Callable[[Sequence[ImageTask], Result], None],
        on_out_of_memory: Callable[[Sequence[ImageTask]], None] = lambda tasks: None,
    ) -> dict[ImageTask, Exception]:
        """Do the work for all images, in as few parts as succeed.

        Args:
            work: may fail because of one of the images.
            done: takes each part that succeeded, with the result of its work.
            on_out_of_memory: takes each part that did not fit into memory.

        Returns:
            The images that failed, each with its fault.

        Raises:
            DeviceLost: the device is gone, and every image with it.
        """

        def attempt(part: Sequence[ImageTask]) -> Exception | None:
            try:
                result = work(part)
            except DeviceLost:
                raise
            except OutOfMemory as error:
                on_out_of_memory(part)
                return self._freed(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, one image caused it
                return error
            done(part, result)
            return None

        return _culprits(tasks, attempt)

    def _freed(self, error: OutOfMemory) -> OutOfMemory:
        """Give the memory of a failed attempt back to the device."""
        self._metrics.out_of_memory.inc()
        bare = _without_frames(error)
        self._runner.release_cached_memory()
        return bare


def _culprits(
    tasks: Sequence[ImageTask], attempt: Callable[[Sequence[ImageTask]], Exception | None]
) -> dict[ImageTask, Exception]:
    fault = attempt(tasks)
    if fault is not None and len(tasks) > 1:
        half = len(tasks) // 2
        return _culprits(tasks[:half], attempt) | _culprits(tasks[half:], attempt)
    if isinstance(fault, OutOfMemory):
        fault = attempt(tasks)
    return {} if fault is None else {tasks[0]: fault}


def _without_frames(error: OutOfMemory) -> OutOfMemory:
    """The same error without the stack frames, whose tensors would take the halves' room."""
    bare = OutOfMemory(str(error))
    at: BaseException | None = error
    while at is not None:
        traceback.clear_frames(at.__traceback__)
        at = at.__cause__ or at.__context__
    return bare
