"""Answers: finished images as a picture, as JSON or as a zip."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from dataclasses import asdict

from starlette.responses import JSONResponse, Response

from service.http.content_type import JSON
from service.http.negotiation import ZIP, AnswerForm
from service.http.schemas import GeneratedImage, GenerateResponse, SharedParameters, StageTimings
from service.images.encoder import Encoded
from service.images.encoding import CONTENT_TYPES, OutputFormat
from service.images.order import Order
from service.images.parameters import ImageParameters

LONGEST_FILE_NAME = 80
PLAIN_FILE = 0o100644 << 16  # a Unix mode as zip stores it; without one, unzip extracts 000 files


def answer(form: AnswerForm, order: Order, encoded: Encoded) -> Response:
    """The whole response."""
    response = _body(form, order, encoded)
    response.headers.update(headers_of(form, order))
    response.headers["Server-Timing"] = ", ".join(
        f"{name};dur={seconds * 1e3:.1f}" for name, seconds in encoded.stages.items()
    )
    return response


def headers_of(form: AnswerForm, order: Order) -> dict[str, str]:
    """The headers that are known before the images are finished."""
    headers = {"ETag": order.etag(form.kind, form.output_format)}
    if len(order.images) == 1:
        headers["X-Seed"] = str(order.images[0].seed)
        headers["X-Class-Label"] = str(order.images[0].class_label)
    return headers


def as_json(order: Order, encoded: Encoded, output_format: OutputFormat) -> GenerateResponse:
    """The images in base64, with the parameters that they share."""
    images = [
        GeneratedImage(
            index=i,
            seed=parameters.seed,
            b64_json=base64.b64encode(file).decode("ascii"),
            content_type=CONTENT_TYPES[output_format],
        )
        for i, (parameters, file) in enumerate(zip(order.images, encoded.files))
    ]
    first = order.images[0]
    return GenerateResponse(
        images=images,
        parameters=SharedParameters(**asdict(first), num_images=len(images)),
        timings=StageTimings(**encoded.stages),
        model=first.model,
    )


def _body(form: AnswerForm, order: Order, encoded: Encoded) -> Response:
    if form.kind == JSON:
        return JSONResponse(as_json(order, encoded, form.output_format).model_dump())
    if form.kind == ZIP:
        return Response(_zipped(order, encoded, form.output_format), media_type=ZIP)
    return Response(encoded.files[0], media_type=CONTENT_TYPES[form.output_format])


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
