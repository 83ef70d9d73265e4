"""Encoder: encodes finished images in a thread pool, off the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
import structlog

from service.images.encoding import CONTENT_TYPES, OutputFormat, encode
from service.images.order import Order
from service.images.parameters import ImageParameters
from service.images.signing.signer import Signer
from service.metrics import Metrics
from service.scheduling.jobs import JobResult, Timings
from service.tracing.stages import stage

log = structlog.get_logger()

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
    """Turns pixels into files without blocking the event loop.

    Args:
        signer: signs finished images, but neither previews nor what /verify makes again.
    """

    def __init__(self, pool: Executor, metrics: Metrics, signer: Signer | None = None) -> None:
        self._pool = pool
        self._metrics = metrics
        self._signer = signer
        if signer is not None:
            metrics.signing_expiry.set(signer.expires.timestamp())

    async def encode_all(
        self, result: JobResult, order: Order, output_format: OutputFormat
    ) -> Encoded:
        """Encode every image of a finished request, and sign it where the service signs.

        Raises:
            SigningFailed: the image cannot be signed.
        """
        began = time.perf_counter()
        with stage("encode"):
            files = await asyncio.gather(
                *(
                    self.run(self._signed, pixels, output_format, parameters)
                    for pixels, parameters in zip(result.pixels, order.images)
                )
            )
        return Encoded(list(files), result.timings, time.perf_counter() - began)

    async def encode(
        self,
        pixels: np.ndarray,
        output_format: OutputFormat,
        parameters: ImageParameters,
        *,
        xmp: bool = True,
    ) -> bytes:
        """Encode one image: uint8 (H, W, 3) -> the file's bytes, unsigned."""
        return await self.run(self._timed, pixels, output_format, parameters, xmp=xmp)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call what works on whole files in one of the threads."""
        loop = asyncio.get_running_loop()
        call = partial(function, *args, **kwargs)
        in_context = copy_context().run  # so that log lines have the request's id
        return await loop.run_in_executor(self._pool, in_context, call)

    def _timed(
        self,
        pixels: np.ndarray,
        output_format: OutputFormat,
        parameters: ImageParameters,
        *,
        xmp: bool = True,
    ) -> bytes:
        with self._metrics.encode_duration.labels(output_format).time():
            return encode(pixels, output_format, parameters, xmp=xmp)

    def _signed(
        self, pixels: np.ndarray, output_format: OutputFormat, parameters: ImageParameters
    ) -> bytes:
        file = self._timed(pixels, output_format, parameters)
        if self._signer is None:
            return file
        try:
            with self._metrics.sign_duration.labels(output_format).time():
                return self._signer.sign(file, CONTENT_TYPES[output_format])
        except Exception as error:
            self._metrics.signing_failures.inc()
            log.error("signing failed", reason=str(error))
            raise
