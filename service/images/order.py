"""Generation: from a valid request to a job for the engine, and to its encoded images."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from model.sampling.noise import seed_of_image
from model.sampling.parameters import Sampling
from model.sampling.trajectory import plan_trajectory
from service import __version__
from service.engine.model_info import ModelInfo
from service.errors import FieldError, InvalidRequest
from service.http.schemas import MAX_SEED, GenerateRequest
from service.images.encoding import ImageParameters, encode
from service.metrics import Metrics
from service.scheduling.jobs import Job, JobResult, Progress, Timings


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The server's limits and defaults for requests."""

    max_images: int
    timeout_s: float
    cfg_scale: float | None  # None: what the model's maker recommends
    num_sampling_steps: int
    sampler: str
    reproducible: bool

    def cfg_scale_of(self, served: ModelInfo) -> float:
        """The guidance of a request that names none."""
        ours = self.cfg_scale if served.guidable else None
        return served.default_cfg_scale if ours is None else ours


@dataclass(frozen=True, slots=True)
class Order:
    """A request with every default filled in: the parameters of each of its images, in order."""

    images: tuple[ImageParameters, ...]
    timeout_s: float

    def etag(self, *form: str) -> str:
        """The same for every request that means the same pictures of the same model in this form."""
        text = "\n".join((*form, *(image.as_json() for image in self.images)))
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def take_order(request: GenerateRequest, served: ModelInfo, policy: RequestLimits) -> Order:
    """Check what depends on the server and its model, and fill the defaults in.

    Raises:
        InvalidRequest: a field is beyond the server's limit or the model's range.
        UnknownClass: no class has the name.
    """
    entry = served.classes.resolve(request.class_label)
    seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
    cfg_scale = request.cfg_scale or policy.cfg_scale_of(served)
    steps = request.num_sampling_steps or policy.num_sampling_steps
    _check_limits(request, policy)
    _check_range(served, cfg_scale, steps)
    first = ImageParameters(
        class_label=entry.id,
        class_name=entry.name,
        cfg_scale=cfg_scale,
        num_sampling_steps=steps,
        sampler=request.sampler or policy.sampler,
        seed=seed,
        guidance_interval=request.guidance_interval,
        image_size=served.image_size,
        model=served.name,
        model_digest=served.digest,
        dtype=served.dtype,
        reproducible=policy.reproducible,
        version=__version__,
    )
    images = tuple(replace(first, seed=seed_of_image(seed, i)) for i in range(request.num_images))
    return Order(images, request.timeout_s or policy.timeout_s)


def _check_limits(request: GenerateRequest, policy: RequestLimits) -> None:
    """What this server allows."""
    wrong = []
    if request.num_images > policy.max_images:
        allowed = f"1 .. {policy.max_images}"
        wrong.append(FieldError("num_images", f"must be {allowed}", request.num_images, allowed))
    if request.timeout_s is not None and request.timeout_s > policy.timeout_s:
        allowed = f"more than 0, at most {policy.timeout_s:g}"
        wrong.append(FieldError("timeout_s", f"must be {allowed}", request.timeout_s, allowed))
    if wrong:
        raise InvalidRequest(*wrong)


def _check_range(served: ModelInfo, cfg_scale: float, steps: int) -> None:
    """What this model can do, be it asked for or a default."""
    wrong = []
    if cfg_scale != 1.0 and not served.guidable:
        message = "must be 1: this model has no null class to guide away from"
        wrong.append(FieldError("cfg_scale", message, cfg_scale, "1.0"))
    most = served.schedule.num_train_timesteps
    if steps > most:
        allowed = f"1 .. {most}"
        wrong.append(FieldError("num_sampling_steps", f"must be {allowed}", steps, allowed))
    if wrong:
        raise InvalidRequest(*wrong)


def make_job(
    order: Order,
    served: ModelInfo,
    request_id: str,
    *,
    client: str = "",
    preview_every: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Job:
    now = time.monotonic()
    trajectories = tuple(
        plan_trajectory(
            served.schedule,
            Sampling(
                class_label=image.class_label,
                cfg_scale=image.cfg_scale,
                num_sampling_steps=image.num_sampling_steps,
                sampler=image.sampler,  # type: ignore[arg-type]
                seed=image.seed,
                guidance_interval=image.guidance_interval,
            ),
        )
        for image in order.images
    )
    return Job(
        id=request_id,
        deadline=now + order.timeout_s,
        admitted=now,
        trajectories=trajectories,
        client=client,
        preview_every=preview_every,
        on_progress=on_progress,
    )


@dataclass(frozen=True, slots=True)
class Encoded:
    """A finished request: the bytes of each image, and the seconds each stage took."""

    files: list[bytes]
    engine: Timings
    encode_s: float


class Encoder:
    """Encodes beside the event loop, in a pool of threads."""

    def __init__(self, pool: Executor, metrics: Metrics) -> None:
        self._pool = pool
        self._metrics = metrics

    async def encode_all(self, result: JobResult, order: Order, output_format: str) -> Encoded:
        began = time.perf_counter()
        files = await asyncio.gather(
            *(
                self.encode(pixels, output_format, parameters)
                for pixels, parameters in zip(result.pixels, order.images)
            )
        )
        return Encoded(list(files), result.timings, time.perf_counter() - began)

    async def encode(
        self, pixels: np.ndarray, output_format: str, parameters: ImageParameters
    ) -> bytes:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._pool, self._timed, pixels, output_format, parameters
        )

    def _timed(self, pixels: np.ndarray, output_format: str, parameters: ImageParameters) -> bytes:
        with self._metrics.encode_duration.labels(output_format).time():
            return encode(pixels, output_format, parameters)
