"""Results: what the calls return."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dit_client.errors import InvalidAnswer
from dit_client.wire.json_fields import as_list, as_object, member, optional, texts

SUFFIXES = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpg"}


@dataclass(frozen=True, slots=True)
class Image:
    """One image. Asked for alone with its ``seed``, it is the same."""

    index: int
    seed: int
    content_type: str
    data: bytes

    @property
    def suffix(self) -> str:
        """The usual ending of a file of its type, without a dot."""
        return SUFFIXES.get(self.content_type, "bin")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file; one that is there is replaced."""
        Path(path).write_bytes(self.data)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the images were made with, all defaults filled in. ``seed`` is the first image's.

    ``members`` has all of it as the service sent it, also what this version of the client does not know.
    """

    class_label: int
    class_name: str
    cfg_scale: float
    num_sampling_steps: int
    sampler: str
    seed: int
    guidance_interval: tuple[float, float]
    quality: str | None
    members: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds in the service: waiting for the first step, denoising, decoding, writing the files."""

    queue: float
    denoise: float
    decode: float
    encode: float


@dataclass(frozen=True, slots=True)
class Generation:
    """The images of a request, and what they share. ``etag`` is equal for equal images."""

    images: tuple[Image, ...]
    parameters: Parameters
    timings: Timings
    model: str
    etag: str | None
    request_id: str | None

    @property
    def image(self) -> Image:
        """The first image."""
        return self.images[0]


@dataclass(frozen=True, slots=True)
class ClassEntry:
    """A class that can be asked for: by id, name, synonym or, if it is known, WordNet id."""

    id: int
    name: str
    synonyms: tuple[str, ...] = ()
    wordnet_id: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is served. ``limits`` and ``defaults`` are by field of a request; ``members`` has all
    that the service sent."""

    id: str
    architecture: str
    image_size: int
    num_classes: int
    dtype: str
    device: str
    digest: str
    licence: str | None
    limits: Mapping[str, object]
    defaults: Mapping[str, object]
    members: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a file is what its metadata says: see /verify in the API's description."""

    verified: bool
    bytes_equal: bool
    max_pixel_difference: int | None
    reproducible: bool
    parameters: Mapping[str, object]
    reason: str | None


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the service takes requests; if not, ``detail`` says why."""

    ready: bool
    detail: str


def generation_from(
    value: object, *, etag: str | None = None, request_id: str | None = None
) -> Generation:
    """
    Raises:
        InvalidAnswer: this is not the answer to a request for images.
    """
    fields = as_object(value)
    images = tuple(map(image_from, member(fields, "images", list)))
    return summary_from(fields, images, etag=etag, request_id=request_id)


def summary_from(
    fields: Mapping[str, object],
    images: tuple[Image, ...],
    *,
    etag: str | None,
    request_id: str | None,
) -> Generation:
    """
    Raises:
        InvalidAnswer: there are no images, or this is not what the service says about images.
    """
    if not images:
        raise InvalidAnswer("the answer has no images")
    timings = member(fields, "timings", dict)
    return Generation(
        images=images,
        parameters=parameters_from(member(fields, "parameters", dict)),
        timings=Timings(
            queue=member(timings, "queue", float),
            denoise=member(timings, "denoise", float),
            decode=member(timings, "decode", float),
            encode=member(timings, "encode", float),
        ),
        model=member(fields, "model", str),
        etag=etag,
        request_id=request_id,
    )


def image_from(value: object) -> Image:
    """
    Raises:
        InvalidAnswer: this is not an image in base64 and what belongs to it.
    """
    fields = as_object(value)
    return Image(
        index=member(fields, "index", int),
        seed=member(fields, "seed", int),
        content_type=member(fields, "content_type", str),
        data=bytes_from(member(fields, "b64_json", str)),
    )


def bytes_from(text: str) -> bytes:
    """
    Raises:
        InvalidAnswer: this is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidAnswer("an image is not valid base64") from None


def parameters_from(fields: Mapping[str, object]) -> Parameters:
    """
    Raises:
        InvalidAnswer: a parameter is missing, or of the wrong type.
    """
    interval = member(fields, "guidance_interval", list)
    if len(interval) != 2:
        raise InvalidAnswer("guidance_interval has not two members")
    ends = {"low": interval[0], "high": interval[1]}
    return Parameters(
        class_label=member(fields, "class_label", int),
        class_name=member(fields, "class_name", str),
        cfg_scale=member(fields, "cfg_scale", float),
        num_sampling_steps=member(fields, "num_sampling_steps", int),
        sampler=member(fields, "sampler", str),
        seed=member(fields, "seed", int),
        guidance_interval=(member(ends, "low", float), member(ends, "high", float)),
        quality=optional(fields, "quality", str),
        members=fields,
    )


def classes_from(value: object) -> tuple[ClassEntry, ...]:
    """
    Raises:
        InvalidAnswer: this is not a list of classes.
    """
    return tuple(
        ClassEntry(
            id=member(each, "id", int),
            name=member(each, "name", str),
            synonyms=texts(each, "synonyms"),
            wordnet_id=optional(each, "wordnet_id", str),
        )
        for each in map(as_object, as_list(value))
    )


def models_from(value: object) -> tuple[Model, ...]:
    """
    Raises:
        InvalidAnswer: this is not a list of models.
    """
    return tuple(map(_model_from, map(as_object, member(as_object(value), "data", list))))


def verification_from(value: object) -> Verification:
    """
    Raises:
        InvalidAnswer: this is not a verdict.
    """
    fields = as_object(value)
    return Verification(
        verified=member(fields, "verified", bool),
        bytes_equal=member(fields, "bytes_equal", bool),
        max_pixel_difference=optional(fields, "max_pixel_difference", int),
        reproducible=member(fields, "reproducible", bool),
        parameters=member(fields, "parameters", dict),
        reason=optional(fields, "reason", str),
    )


def _model_from(fields: Mapping[str, object]) -> Model:
    return Model(
        id=member(fields, "id", str),
        architecture=member(fields, "architecture", str),
        image_size=member(fields, "image_size", int),
        num_classes=member(fields, "num_classes", int),
        dtype=member(fields, "dtype", str),
        device=member(fields, "device", str),
        digest=member(fields, "digest", str),
        licence=optional(fields, "licence", str),
        limits=member(fields, "limits", dict),
        defaults=member(fields, "defaults", dict),
        members=fields,
    )
