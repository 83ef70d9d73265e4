"""DecodeQueue: finished images on their way into the decoder."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Sequence

from service.engine.decoder_passes import PASS_S, DecoderPasses
from service.scheduling.jobs import ImageTask, Job


class DecodeQueue:
    """Starts passes for about `PASS_S` at a time, so that a slow decoder stops no tick for long.

    The jobs take turns, an image each. On CUDA passes are started in no time, and none waits.
    """

    def __init__(self, passes: DecoderPasses) -> None:
        self._passes = passes
        self._waiting: OrderedDict[Job, deque[ImageTask]] = OrderedDict()  # the next comes first

    @property
    def jobs(self) -> list[Job]:
        """Those with an image that waits."""
        return list(self._waiting)

    def add(self, finished: Sequence[ImageTask]) -> None:
        """Queue these images."""
        for task in finished:
            self._waiting.setdefault(task.job, deque()).append(task)

    def drop(self, job: Job) -> None:
        """Forget the images of a job, if any wait."""
        self._waiting.pop(job, None)

    def start(self) -> dict[ImageTask, Exception]:
        """Start the next passes.

        Returns:
            The images that failed, each with its error.

        Raises:
            DeviceLost: the device is gone, and every image with it.
        """
        faults: dict[ImageTask, Exception] = {}
        ends = time.monotonic() + PASS_S
        while self._waiting:
            faults |= self._passes.start(self._next())
            if time.monotonic() >= ends:
                break
        return faults

    def _next(self) -> list[ImageTask]:
        """The images of the next pass."""
        part: list[ImageTask] = []
        while self._waiting and len(part) < self._passes.at_once:
            job, images = self._waiting.popitem(last=False)
            part.append(images.popleft())
            if images:
                self._waiting[job] = images
        return part
