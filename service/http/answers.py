"""Answers: finished images as a picture, as JSON or as a zip."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from http import HTTPStatus

import PIL
from starlette.responses import Response

from service.http.content_type import JSON
from service.http.media_ranges import BY_ACCEPT
from service.http.negotiation import ZIP, AnswerForm
from service.http.schemas import GeneratedImage, GenerateSummary, SharedParameters, StageTimings
from service.images.encoder import Encoded
from service.images.encoding import CONTENT_TYPES, OutputFormat
from service.images.order import Order
from service.images.parameters import ImageParameters

EXACT = ("image", ZIP)
"""Forms whose bytes depend on the pictures alone; in JSON there are timings."""

ENCODER = f"pillow {PIL.__version__}"
ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')
LONGEST_FILE_NAME = 80
PLAIN_FILE = 0o100644 << 16  # a Unix mode as zip stores it; without one, unzip extracts 000 files


def answer(form: AnswerForm, order: Order, encoded: Encoded) -> Response:
    """The whole response. Takes long for large files: call it in a thread."""
    response = _body(form, order, encoded)
    response.headers.update(headers_of(form, order))
    response.headers["Server-Timing"] = server_timing(encoded)
    return response


def server_timing(encoded: Encoded) -> str:
    """The stages of a finished request, in milliseconds."""
    return ", ".join(f"{name};dur={each * 1e3:.1f}" for name, each in encoded.stages.items())


def headers_of(form: AnswerForm, order: Order) -> dict[str, str]:
    """The headers that are known before the images are finished."""
    return {"ETag": _entity_tag(form, order)} | BY_ACCEPT | headers_of_image(order)


def headers_of_image(order: Order) -> dict[str, str]:
    """Headers of a single image."""
    if len(order.images) > 1:
        return {}
    (image,) = order.images
    return {"X-Seed": str(image.seed), "X-Class-Label": str(image.class_label)}


def unchanged(form: AnswerForm, order: Order, if_none_match: Sequence[str]) -> Response | None:
    """The answer 304 if the client has these pictures already, by its If-None-Match.

    None if it does not have them, or if only making them again can tell: outside reproducible mode.
    """
    if order.images[0].reproducible and matches(_entity_tag(form, order), if_none_match):
        return Response(status_code=int(HTTPStatus.NOT_MODIFIED), headers=headers_of(form, order))
    return None


def matches(entity_tag: str, if_none_match: Sequence[str]) -> bool:
    """Whether a client has what the tag stands for, by its If-None-Match (RFC 9110, 13.1.2)."""
    given = ",".join(if_none_match).strip()
    return given == "*" or _opaque(entity_tag) in map(_opaque, _listed(given))


def _entity_tag(form: AnswerForm, order: Order) -> str:
    """Strong where it promises the same bytes, else weak (RFC 9110, 8.8.1).

    No two signatures are the same.
    """
    tag = order.etag(form.kind, form.output_format, ENCODER)
    exact = form.kind in EXACT and order.images[0].reproducible and not order.signed
    return tag if exact else f"W/{tag}"


def _listed(given: str) -> list[str]:
    return [match[0] for match in ENTITY_TAG.finditer(given)]


def _opaque(entity_tag: str) -> str:
    """What the weak comparison compares."""
    return entity_tag.removeprefix("W/")


def image_json(index: int, order: Order, encoded: Encoded, output_format: OutputFormat) -> str:
    """One image in base64, with its seed."""
    return GeneratedImage(
        index=index,
        seed=order.images[index].seed,
        b64_json=base64.b64encode(encoded.files[index]).decode("ascii"),
        content_type=CONTENT_TYPES[output_format],
    ).model_dump_json()


def summary_json(order: Order, encoded: Encoded) -> str:
    """What the images of a request share; in ASCII, so that nothing in it ends an event's line."""
    return json.dumps(summary_of(order, encoded).model_dump())


def summary_of(order: Order, encoded: Encoded) -> GenerateSummary:
    first = order.images[0]
    return GenerateSummary(
        parameters=SharedParameters(
            **asdict(first), num_images=len(order.images), quality=order.quality
        ),
        timings=StageTimings(**encoded.stages),
        model=first.model,
    )


def _body(form: AnswerForm, order: Order, encoded: Encoded) -> Response:
    if form.kind == JSON:
        return Response(_all_json(order, encoded, form.output_format), media_type=JSON)
    if form.kind == ZIP:
        return Response(_zipped(order, encoded, form.output_format), media_type=ZIP)
    return Response(encoded.files[0], media_type=CONTENT_TYPES[form.output_format])


def _all_json(order: Order, encoded: Encoded, output_format: OutputFormat) -> str:
    """A GenerateResponse. Written image by image, so that no call keeps other threads waiting."""
    images = (image_json(i, order, encoded, output_format) for i in range(len(order.images)))
    return f'{{"images":[{",".join(images)}],{summary_json(order, encoded).removeprefix("{")}'


def _zipped(order: Order, encoded: Encoded, output_format: OutputFormat) -> bytes:
    """One file per image, without timestamps, so that the bytes repeat."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, (parameters, file) in enumerate(zip(order.images, encoded.files)):
            entry = zipfile.ZipInfo(f"{_file_name(parameters)}-{i}.{output_format}")
            entry.external_attr = PLAIN_FILE
            archive.writestr(entry, file)
    return buffer.getvalue()


def _file_name(parameters: ImageParameters) -> str:
    """class-seed: letters and digits of any script, and nothing that a file system rejects."""
    name = re.sub(r"[^\w]+", "_", parameters.class_name)[:LONGEST_FILE_NAME].strip("_")
    return f"{name or parameters.class_label}-{parameters.seed}"
