"""Answers: the forms in which finished images leave: picture, JSON, zip."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from dataclasses import asdict

from starlette.responses import JSONResponse, Response

from service.generation import Encoded, Order
from service.images import CONTENT_TYPES
from service.negotiation import JSON, ZIP, AnswerForm
from service.schemas import GeneratedImage, GenerateResponse, StageTimings

PER_IMAGE = ("seed", "model", "model_digest", "dtype", "reproducible", "version", "image_size")


def answer(form: AnswerForm, order: Order, encoded: Encoded) -> Response:
    """The whole response, with the headers that every form has."""
    response = _body(form, order, encoded)
    response.headers["Server-Timing"] = _server_timing(encoded)
    response.headers["ETag"] = order.etag()
    if len(order.images) == 1:
        response.headers["X-Seed"] = str(order.images[0].seed)
        response.headers["X-Class-Label"] = str(order.images[0].class_label)
    return response


def as_json(order: Order, encoded: Encoded, output_format: str) -> GenerateResponse:
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
    shared = {name: value for name, value in asdict(first).items() if name not in PER_IMAGE}
    timings = StageTimings(**asdict(encoded.engine), encode=encoded.encode_s)
    return GenerateResponse(
        images=images,
        parameters=shared | {"seed": first.seed, "num_images": len(images)},
        timings=timings,
        model=first.model,
    )


def _body(form: AnswerForm, order: Order, encoded: Encoded) -> Response:
    if form.kind == JSON:
        return JSONResponse(as_json(order, encoded, form.output_format).model_dump())
    if form.kind == ZIP:
        return Response(_zipped(order, encoded, form.output_format), media_type=ZIP)
    return Response(encoded.files[0], media_type=CONTENT_TYPES[form.output_format])


def _zipped(order: Order, encoded: Encoded, output_format: str) -> bytes:
    """One file an image, named class-seed-index; no time of the day in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, (parameters, file) in enumerate(zip(order.images, encoded.files)):
            name = re.sub(r"[^\w]+", "_", parameters.class_name).strip("_")
            entry = zipfile.ZipInfo(f"{name}-{parameters.seed}-{i}.{output_format}")
            archive.writestr(entry, file)
    return buffer.getvalue()


def _server_timing(encoded: Encoded) -> str:
    stages = asdict(encoded.engine) | {"encode": encoded.encode_s}
    return ", ".join(f"{name};dur={seconds * 1e3:.1f}" for name, seconds in stages.items())
