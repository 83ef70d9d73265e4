"""Answers: finished images as a picture, as JSON or as a zip."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from dataclasses import asdict

from starlette.responses import Response

from service.http.content_type import JSON
from service.http.media_ranges import BY_ACCEPT
from service.http.negotiation import ZIP, AnswerForm
from service.http.schemas import GeneratedImage, GenerateSummary, SharedParameters, StageTimings
from service.images.encoder import Encoded
from service.images.encoding import CONTENT_TYPES, OutputFormat
from service.images.order import Order
from service.images.parameters import ImageParameters

LONGEST_FILE_NAME = 80
PLAIN_FILE = 0o100644 << 16  # a Unix mode as zip stores it; without one, unzip extracts 000 files


def answer(form: AnswerForm, order: Order, encoded: Encoded) -> Response:
    """The whole response. Takes long for large files: call it in a thread."""
    response = _body(form, order, encoded)
    response.headers.update(headers_of(form, order))
    response.headers["Server-Timing"] = ", ".join(
        f"{name};dur={seconds * 1e3:.1f}" for name, seconds in encoded.stages.items()
    )
    return response


def headers_of(form: AnswerForm, order: Order) -> dict[str, str]:
    """The headers that are known before the images are finished."""
    headers = {"ETag": order.etag(form.kind, form.output_format)} | BY_ACCEPT
    if len(order.images) == 1:
        headers["X-Seed"] = str(order.images[0].seed)
        headers["X-Class-Label"] = str(order.images[0].class_label)
    return headers


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
    first = order.images[0]
    summary = GenerateSummary(
        parameters=SharedParameters(
            **asdict(first), num_images=len(order.images), quality=order.quality
        ),
        timings=StageTimings(**encoded.stages),
        model=first.model,
    )
    return json.dumps(summary.model_dump())


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
