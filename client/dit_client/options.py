"""Options: what a request for images may say beside its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from typing_extensions import TypedDict

Quality = Literal["fast", "balanced", "best"]
OutputFormat = Literal["png", "webp", "jpeg"]


class Options(TypedDict, total=False):
    """The fields of the API's POST /generate, which says what each may be. None is the same as absent:
    the service's default.

    ``quality`` is a preset of sampler and steps, and excludes both. ``extra`` are fields that this
    version of the client does not know.
    """

    cfg_scale: float | None
    num_sampling_steps: int | None
    sampler: str | None
    quality: Quality | None
    seed: int | None
    num_images: int | None
    guidance_interval: tuple[float, float] | None
    cfg_channels: int | None
    output_format: OutputFormat | None
    extra: Mapping[str, object] | None


def body_of(class_label: int | str, options: Options) -> dict[str, object]:
    """The fields of a request's body."""
    fields: dict[str, object] = {"class_label": class_label, **options}
    extra = fields.pop("extra", None)
    given = {name: value for name, value in fields.items() if value is not None}
    return {**given, **extra} if isinstance(extra, Mapping) else given
