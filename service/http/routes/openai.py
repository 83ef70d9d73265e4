"""POST /v1/images/generations: as OpenAI's clients ask for pictures."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotAcceptable
from service.http.answers import headers_of_image
from service.http.content_type import JSON, check_json
from service.http.context import client_limits_of, client_of, context_of, limits_of
from service.http.disconnect import result_of
from service.http.events import stream_events
from service.http.media_ranges import best_offer
from service.http.negotiation import EVENTS
from service.http.openai.answers import Frame, ImageEvents, images_answer
from service.http.openai.order import take_images_order
from service.http.openai.request import images_request_schema, parse_images_request
from service.http.openai.schemas import ImagesAnswer
from service.http.problems import openai_responses
from service.images.order import make_job

router = APIRouter(prefix="/v1", tags=["openai"])

EXAMPLES = {
    "one image": {"prompt": "0"},
    "two images of one class and seed, smaller": {
        "prompt": "0",
        "n": 2,
        "size": "auto",
        "output_format": "jpeg",
        "output_compression": 80,
        "seed": 1,
    },
    "as events, with previews": {"prompt": "0", "stream": True, "partial_images": 2},
    "with the fields of /generate": {
        "prompt": "0",
        "seed": 1,
        "cfg_scale": 4.0,
        "num_inference_steps": 20,
        "sampler": "dpmpp_2m",
    },
}
"""They work with any model."""

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": images_request_schema(),
                "examples": {name: {"value": value} for name, value in EXAMPLES.items()},
            }
        },
    }
}
_HEADERS = {
    "X-Seed": "With one image: its seed.",
    "X-Class-Label": "With one image: its class id.",
}
_PICTURES = {
    "description": "The pictures; with `stream`, as the events image_generation.partial_image and"
    " image_generation.completed.",
    "headers": {
        name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()
    },
    "model": ImagesAnswer,
    "content": {EVENTS: {}},
}


@router.post(
    "/images/generations",
    openapi_extra=_BODY,
    response_class=Response,
    responses={
        200: _PICTURES,
        **openai_responses(404, 406, 408, 413, 415, 422, 429, 500, 503, 504),
    },
    summary="Generate images, as OpenAI's clients ask for them",
)
async def images(request: Request) -> Response:
    """The prompt is a class. Whatever OpenAI's models have and this one does not is refused."""
    context = context_of(request)
    check_json(request.headers)
    asked = parse_images_request(await request.body())
    model_info = context.engine.model_info
    order = take_images_order(asked, model_info, limits_of(request))
    frame = Frame.of(order, asked.own.output_format, model_info)
    _check_accept(request, EVENTS if asked.own.stream else JSON)
    if asked.own.stream:
        return stream_events(
            request,
            order,
            model_info,
            output_format=frame.output_format,
            wording=ImageEvents(frame),
            headers=headers_of_image(order),
            preview_count=asked.own.partial_images,
        )
    job = make_job(
        order,
        model_info,
        request.state.request_id,
        client=client_of(request),
        client_limits=client_limits_of(request),
    )
    result = await result_of(request, job, context.engine.submit(job))
    encoded = await context.encoder.encode_all(result, order, frame.output_format)
    return await context.encoder.run(images_answer, frame, order, encoded)


def _check_accept(request: Request, form: str) -> None:
    """The body chooses the form; clients ask for JSON even where they want events."""
    accept = ", ".join(request.headers.getlist("accept"))
    if best_offer(accept, tuple(dict.fromkeys((form, JSON)))) is None:
        raise NotAcceptable(f"Accept is {accept[:200]!r}; this answer is {form}")
