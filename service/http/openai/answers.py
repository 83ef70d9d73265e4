"""Answers: finished images as OpenAI's clients read them, in one piece or as events."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response

from model.sampling.presets import Quality
from service.engine.model_info import ModelInfo
from service.errors import ServiceError
from service.http.answers import headers_of_image, server_timing, summary_of
from service.http.content_type import JSON
from service.http.events import sse
from service.http.openai.order import size_of
from service.http.openai.schemas import (
    CompletedImage,
    EventLook,
    ImageData,
    ImagesSummary,
    PartialImage,
    Usage,
)
from service.http.problems import openai_body
from service.images.encoder import Encoded
from service.images.encoding import OutputFormat
from service.images.order import Order
from service.scheduling.jobs import Progress

QualityName = Literal["low", "medium", "high"]
QUALITIES: dict[Quality, QualityName] = {"fast": "low", "balanced": "medium", "best": "high"}


@dataclass(frozen=True, slots=True)
class Frame:
    """What a request's answer says of all its images."""

    output_format: OutputFormat
    size: str
    quality: QualityName | None
    image_tokens: int

    @classmethod
    def of(cls, order: Order, output_format: OutputFormat | None, model_info: ModelInfo) -> Frame:
        return cls(
            output_format=output_format or "png",
            size=size_of(model_info),
            quality=quality_of(order),
            image_tokens=model_info.image_tokens,
        )


def images_answer(frame: Frame, order: Order, encoded: Encoded) -> Response:
    """The whole response. Takes long for large files: call it in a thread."""
    headers = headers_of_image(order) | {"Server-Timing": server_timing(encoded)}
    return Response(_body(frame, order, encoded), media_type=JSON, headers=headers)


class ImageEvents:
    """The events of a streamed request. There is none for progress: clients would not know it."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._shown: Counter[int] = Counter()  # previews by image

    def progress(self, progress: Progress) -> str:
        return ""

    def preview(self, index: int, file: bytes) -> str:
        shown = self._shown[index]
        self._shown[index] += 1
        look = self._look(index, file)
        return _event(PartialImage(partial_image_index=shown, **look.model_dump()))

    def image(self, index: int, order: Order, encoded: Encoded) -> str:
        look = self._look(index, encoded.files[index])
        return _event(
            CompletedImage(
                **look.model_dump(),
                **dict(summary_of(order, encoded)),
                seed=order.images[index].seed,
                usage=Usage.of(1, self._frame.image_tokens),
            )
        )

    def end(self, order: Order, encoded: Encoded) -> str:
        return ""

    def error(self, error: ServiceError, request_id: str) -> str:
        return sse("error", json.dumps(openai_body(error)))

    def _look(self, index: int, file: bytes) -> EventLook:
        return EventLook(
            output_format=self._frame.output_format,
            size=self._frame.size,
            index=index,
            created_at=int(time.time()),
            quality=self._frame.quality or "auto",
            b64_json=base64.b64encode(file).decode("ascii"),
        )


def quality_of(order: Order) -> QualityName | None:
    """The preset of an order, in OpenAI's words; None if it has none."""
    return None if order.quality is None else QUALITIES[order.quality]


def _event(data: PartialImage | CompletedImage) -> str:
    return sse(data.type, json.dumps(data.model_dump()))


def _body(frame: Frame, order: Order, encoded: Encoded) -> str:
    """An ImagesAnswer. Written image by image, so that no call keeps other threads waiting."""
    summary = ImagesSummary(
        **dict(summary_of(order, encoded)),
        output_format=frame.output_format,
        size=frame.size,
        created=int(time.time()),
        quality=frame.quality,
        usage=Usage.of(len(order.images), frame.image_tokens),
    )
    images = (
        ImageData(b64_json=base64.b64encode(file).decode("ascii"), seed=image.seed)
        for file, image in zip(encoded.files, order.images)
    )
    data = ",".join(each.model_dump_json() for each in images)
    return f'{{"data":[{data}],{summary.model_dump_json().removeprefix("{")}'
