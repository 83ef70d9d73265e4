"""DecoderPasses: images in the decoder, pass by pass."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import structlog

from model.runner.decoding import Decoding, Pixels
from model.runner.runner import Flight, ModelRunner
from service.engine.isolation import Isolation
from service.scheduling.jobs import ImageTask, flights_of
from service.scheduling.pace import Pace

PASS_S = 0.5
"""A pass takes about this long at most, or else is of one image."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DecoderPass:
    """Images that are decoded together. Starting it took ``start_s``."""

    tasks: Sequence[ImageTask]
    decoding: Decoding
    start_s: float

    @property
    def seconds(self) -> float:
        """What the pass took; it must be done."""
        on_device = self.decoding.device_seconds
        return self.start_s if on_device is None else on_device


@dataclass(frozen=True, slots=True)
class Decoded:
    """The images of a finished pass, their pixels, and the seconds that it took."""

    tasks: Sequence[ImageTask]
    pixels: Pixels
    seconds: float


class DecoderPasses:
    """The passes under way, oldest first. They end in this order.

    Args:
        runner: says how many images make a pass, and is told if they do not fit into memory.
        isolation: fails only the image at fault if a pass cannot be started.
        start: starts one pass.
        pace: says how long a pass takes, and learns from each.
    """

    def __init__(
        self,
        runner: ModelRunner,
        isolation: Isolation,
        start: Callable[[Sequence[Flight]], Decoding],
        pace: Pace,
    ) -> None:
        self._runner = runner
        self._isolation = isolation
        self._start = start
        self._pace = pace
        self._passes: deque[DecoderPass] = deque()

    @property
    def under_way(self) -> Collection[DecoderPass]:
        return self._passes

    @property
    def at_once(self) -> int:
        """The most images that should share a pass."""
        most, each = self._runner.decoded_at_once, self._pace.decode_seconds
        return most if most * each <= PASS_S else max(1, int(PASS_S / each))

    def start(self, tasks: Sequence[ImageTask]) -> dict[ImageTask, Exception]:
        """Start decoding these images, in as few passes as possible.

        Returns:
            The images that failed, each with its error.

        Raises:
            DeviceLost: the device is gone, and every image with it.
        """
        faults: dict[ImageTask, Exception] = {}
        while tasks:
            at_once = self.at_once
            part, tasks = tasks[:at_once], tasks[at_once:]
            faults |= self._isolation.run(part, self._launch, self._launched, self._shrink)
        return faults

    def finished(self, wait: Callable[[], bool] = lambda: False) -> Iterator[Decoded]:
        """What is decoded, and the next passes too for as long as ``wait`` says so."""
        while self._passes and (self._passes[0].decoding.done or wait()):
            first = self._passes.popleft()
            pixels = first.decoding.pixels()
            self._pace.observe_decode(len(first.tasks), first.seconds)
            yield Decoded(first.tasks, pixels, first.seconds)

    def _launch(self, tasks: Sequence[ImageTask]) -> DecoderPass:
        began = time.monotonic()
        decoding = self._start(flights_of(tasks))
        return DecoderPass(tasks, decoding, time.monotonic() - began)

    def _launched(self, tasks: Sequence[ImageTask], launched: DecoderPass) -> None:
        self._passes.append(launched)

    def _shrink(self, tasks: Sequence[ImageTask]) -> None:
        """A pass of these images did not fit into memory."""
        self._runner.limit_decodes((len(tasks) + 1) // 2)  # the larger half
        log.warning("decoding fewer images at once", images=self._runner.decoded_at_once)
