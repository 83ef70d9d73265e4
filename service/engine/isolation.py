"""Isolation: a failure in joint work for several images fails only the image at fault."""

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
    """A decoded image holds NaN or infinity."""


class Isolation:
    """Repeats failed work in halves until the image at fault is alone.

    This also splits work that is too large for the memory. An image that runs out of memory alone
    gets one more attempt, because another program may have held the memory for a moment.

    Args:
        beat: called after every attempt: a sign of life.
    """

    def __init__(
        self, runner: ModelRunner, metrics: Metrics, beat: Callable[[], None] = lambda: None
    ) -> None:
        self._runner = runner
        self._metrics = metrics
        self._beat = beat

    def run(
        self,
        tasks: Sequence[ImageTask],
        work: Callable[[Sequence[ImageTask]], Result],
        done: Callable[[Sequence[ImageTask], Result], None],
        on_out_of_memory: Callable[[Sequence[ImageTask]], None] = lambda tasks: None,
    ) -> dict[ImageTask, Exception]:
        """Do the work for all images, in as few parts as succeed.

        Args:
            work: the joint work; it may fail because of one image.
            done: called with each part that succeeded, and its result.
            on_out_of_memory: called with each part that did not fit into memory.

        Returns:
            The images that failed, each with its error.

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
                return self._reclaim_memory(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, one image caused it
                return error
            finally:
                self._beat()
            done(part, result)
            return None

        return _culprits(tasks, attempt)

    def _reclaim_memory(self, error: OutOfMemory) -> OutOfMemory:
        """Free what the failed attempt held; returns the error without its frames."""
        self._metrics.out_of_memory.inc()
        bare = _without_frames(error)
        self._runner.release_cached_memory()
        return bare


def _culprits(
    tasks: Sequence[ImageTask], attempt: Callable[[Sequence[ImageTask]], Exception | None]
) -> dict[ImageTask, Exception]:
    """The images that fail alone, found by bisection."""
    fault = attempt(tasks)
    if fault is not None and len(tasks) > 1:
        half = len(tasks) // 2
        return _culprits(tasks[:half], attempt) | _culprits(tasks[half:], attempt)
    if isinstance(fault, OutOfMemory):
        fault = attempt(tasks)
    return {} if fault is None else {tasks[0]: fault}


def _without_frames(error: OutOfMemory) -> OutOfMemory:
    """The same error without its stack frames, whose tensors take the memory that the halves need."""
    bare = OutOfMemory(str(error))
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
    return bare
