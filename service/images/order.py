"""Order: a valid request with all defaults filled in, and the job that makes its images."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from model.sampling.fitted import fitted_solver
from model.sampling.noise import seed_of_image
from model.sampling.parameters import DRAWN_SEEDS, Sampling
from model.sampling.presets import Quality
from model.sampling.trajectory import plan_trajectory
from service import __version__
from service.engine.model_info import ModelInfo
from service.errors import FieldError, InvalidRequest, UnknownModel
from service.images.fitted import unfitted, unsearched
from service.images.limits import RequestLimits
from service.images.parameters import ImageParameters
from service.images.recipe import choose_recipe
from service.images.request import GenerateRequest
from service.scheduling.jobs import UNLIMITED, ClientLimits, Job, Progress


@dataclass(frozen=True, slots=True)
class Order:
    """The parameters of each of a request's images, in order, and the request's deadline.

    ``quality`` is the one that they stand for; None if the request named steps or sampler. ``signed``
    says whether the images will be signed, so that their files do not repeat. ``elapsed_s`` is the part
    of the deadline that has passed.
    """

    images: tuple[ImageParameters, ...]
    timeout_s: float
    quality: Quality | None = None
    signed: bool = False
    elapsed_s: float = 0.0

    def etag(self, *form: str) -> str:
        """Equal for all requests for the same pictures of the same model in this form."""
        signed = ["signed"] if self.signed else []
        text = "\n".join((*form, *signed, *(image.as_json() for image in self.images)))
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def take_order(request: GenerateRequest, model_info: ModelInfo, limits: RequestLimits) -> Order:
    """Fill in the defaults, and check what depends on the server and its model.

    Raises:
        InvalidRequest: a field exceeds the server's limit or the model's range.
        UnknownClass: no class has this name.
        UnknownModel: another model is asked for.
    """
    if request.model is not None:
        check_model(request.model, model_info)
    cfg_scale = request.cfg_scale or limits.cfg_scale_for(model_info)
    chosen = choose_recipe(request, cfg_scale, model_info, limits)
    first = Sampling(
        class_label=model_info.classes.resolve(request.class_label).id,
        cfg_scale=cfg_scale,
        num_sampling_steps=chosen.recipe.num_sampling_steps,
        sampler=chosen.recipe.sampler,
        seed=_seed_of(request, limits),
        guidance_interval=chosen.recipe.guidance_interval,
        cfg_channels=request.cfg_channels or limits.cfg_channels_for(model_info),
    )
    _check_limits(request, limits)
    parameters = parameters_here(first, model_info, reproducible=limits.reproducible)
    seeds = [seed_of_image(first.seed, i) for i in range(request.num_images)]
    images = tuple(replace(parameters, seed=seed) for seed in seeds)
    timeout_s = request.timeout_s or limits.timeout_s
    return Order(images, timeout_s, chosen.quality, limits.signed, limits.elapsed_s)


def check_model(name: str, model_info: ModelInfo) -> None:
    """Refuse every model but the one that is served."""
    if name != model_info.name:
        raise UnknownModel(f"{name[:200]!r} is not served here; {model_info.name!r} is")


def parameters_here(
    sampling: Sampling, model_info: ModelInfo, *, reproducible: bool
) -> ImageParameters:
    """The full parameters of an image that this service samples with ``sampling``.

    Raises:
        InvalidRequest: the model has no such class, or does not support these values.
    """
    entry = model_info.classes.resolve(sampling.class_label)
    _check_range(sampling, model_info)
    if sampling.cfg_channels == model_info.in_channels:
        sampling = replace(sampling, cfg_channels=None)  # all, which is written one way
    return ImageParameters(
        **{field.name: getattr(sampling, field.name) for field in fields(Sampling)},
        class_name=entry.name,
        image_size=model_info.image_size,
        model=model_info.name,
        model_digest=model_info.digest,
        dtype=model_info.dtype,
        reproducible=reproducible,
        version=__version__,
        solver_digest=_solver_digest(sampling, model_info),
    )


def make_job(
    order: Order,
    model_info: ModelInfo,
    request_id: str,
    *,
    client: str = "",
    client_limits: ClientLimits = UNLIMITED,
    preview_every: int = 0,
    preview_count: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Job:
    """The job that makes an order's images; `Job` has the arguments."""
    arrived = time.monotonic() - order.elapsed_s
    schedule = model_info.schedule
    return Job(
        id=request_id,
        deadline=arrived + order.timeout_s,
        admitted=arrived,
        trajectories=tuple(
            plan_trajectory(schedule, image, model_info.fitted) for image in order.images
        ),
        client=client,
        client_limits=client_limits,
        preview_every=preview_every,
        preview_count=preview_count,
        on_progress=on_progress,
    )


def _seed_of(request: GenerateRequest, limits: RequestLimits) -> int:
    if request.seed is not None:
        return request.seed
    return secrets.randbelow(DRAWN_SEEDS) if limits.seed is None else limits.seed


def _check_limits(request: GenerateRequest, limits: RequestLimits) -> None:
    """Refuse what this server does not allow."""
    wrong = []
    if request.num_images > limits.max_images:
        allowed = f"an integer from 1 to {limits.max_images}"
        wrong.append(FieldError("num_images", f"must be {allowed}", request.num_images, allowed))
    if request.timeout_s is not None and request.timeout_s > limits.timeout_s:
        allowed = f"more than 0, at most {limits.timeout_s:g}"
        wrong.append(FieldError("timeout_s", f"must be {allowed}", request.timeout_s, allowed))
    if wrong:
        raise InvalidRequest(*wrong)


def _solver_digest(sampling: Sampling, model_info: ModelInfo) -> str | None:
    if sampling.sampler != "fitted":
        return None
    steps, cfg_scale = sampling.num_sampling_steps, sampling.cfg_scale
    return fitted_solver(model_info.fitted, steps, cfg_scale).digest


def _check_range(sampling: Sampling, model_info: ModelInfo) -> None:
    """Refuse what this model does not support, whether requested or a default."""
    wrong = []
    if sampling.cfg_scale != 1.0 and not model_info.guidable:
        message = "must be 1: this model has no null class to guide away from"
        wrong.append(FieldError("cfg_scale", message, sampling.cfg_scale, "1.0"))
    most, steps = model_info.max_steps, sampling.num_sampling_steps
    if steps > most:
        allowed = f"an integer from 1 to {most}"
        wrong.append(FieldError("num_sampling_steps", f"must be {allowed}", steps, allowed))
    if sampling.sampler == "fitted" and not wrong:
        wrong.extend(unfitted(sampling, model_info.fitted))
    if sampling.sampler == "ns" and not wrong:
        wrong.extend(unsearched(sampling, offered=model_info.offers_ns))
    channels = model_info.in_channels
    if sampling.cfg_channels is not None and sampling.cfg_channels > channels:
        allowed = f"an integer from 1 to {channels}"
        wrong.append(
            FieldError("cfg_channels", f"must be {allowed}", sampling.cfg_channels, allowed)
        )
    if wrong:
        raise InvalidRequest(*wrong)
