"""Encoder: encodes finished images in a thread pool, off the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np

from service.images.encoding import OutputFormat, encode
from service.images.order import Order
from service.images.parameters import ImageParameters
from service.metrics import Metrics
from service.scheduling.jobs import JobResult, Timings
from service.tracing.stages import stage

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A finished request: the bytes of each image, and the seconds that each stage took."""

    files: list[bytes]
    engine: Timings
    encode_s: float

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by stage, in order."""
        engine = self.engine
        return {
            "queue": engine.queue,
            "denoise": engine.denoise,
            "decode": engine.decode,
            "encode": self.encode_s,
        }


class Encoder:
    """Turns pixels into files without blocking the event loop."""

    def __init__(self, pool: Executor, metrics: Metrics) -> None:
        self._pool = pool
        self._metrics = metrics

    async def encode_all(
        self, result: JobResult, order: Order, output_format: OutputFormat
    ) -> Encoded:
        """Encode every image of a finished request."""
        began = time.perf_counter()
        with stage("encode"):
            files = await asyncio.gather(
                *(
                    self.encode(pixels, output_format, parameters)
                    for pixels, parameters in zip(result.pixels, order.images)
                )
            )
        return Encoded(list(files), result.timings, time.perf_counter() - began)

    async def encode(
        self, pixels: np.ndarray, output_format: OutputFormat, parameters: ImageParameters
    ) -> bytes:
        """Encode one image: uint8 (H, W, 3) -> the file's bytes."""
        return await self.run(self._timed, pixels, output_format, parameters)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call what works on whole files in one of the threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))

    def _timed(
        self, pixels: np.ndarray, output_format: OutputFormat, parameters: ImageParameters
    ) -> bytes:
        with self._metrics.encode_duration.labels(output_format).time():
            return encode(pixels, output_format, parameters)
