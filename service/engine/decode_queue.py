"""DecodeQueue: finished images on their way into the decoder."""

from __future__ import annotations

import time
from collections.abc import Sequence

from service.engine.decoder_passes import PASS_S, DecoderPasses
from service.scheduling.jobs import ImageTask
from service.scheduling.scheduler import Scheduler


class DecodeQueue:
    """Starts passes for about `PASS_S` at every step; ticks go on between the steps.

    On CUDA passes are started in no time, and on a CPU a slow decoder holds nobody up for long.

    Args:
        passes: where the images are decoded.
        scheduler: says who goes first.
    """

    def __init__(self, passes: DecoderPasses, scheduler: Scheduler) -> None:
        self._passes = passes
        self._scheduler = scheduler
        self._waiting: Sequence[ImageTask] = []

    def start(self, finished: Sequence[ImageTask]) -> dict[ImageTask, Exception]:
        """Queue these images and start the next passes.

        Returns:
            The images that failed, each with its error.

        Raises:
            DeviceLost: the device is gone, and every image with it.
        """
        wanted = [task for task in self._waiting if task.flight is not None]
        self._waiting = self._scheduler.in_order([*wanted, *finished])
        faults: dict[ImageTask, Exception] = {}
        ends = time.monotonic() + PASS_S
        while self._waiting and time.monotonic() < ends:
            at_once = self._passes.at_once
            part, self._waiting = self._waiting[:at_once], self._waiting[at_once:]
            faults |= self._passes.start(part)
        return faults
