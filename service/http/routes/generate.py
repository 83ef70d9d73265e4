"""POST /generate: class label and guidance in, pictures out."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.engine.model_info import ModelInfo
from service.http.answers import answer, headers_of
from service.http.content_type import JSON, check_json
from service.http.context import client_of, context_of
from service.http.disconnect import result_of
from service.http.events import PING, EventResponse, EventStream, ProgressBox
from service.http.negotiation import EVENTS, ZIP, AnswerForm, negotiate
from service.http.problems import note_error, problem_responses
from service.http.schemas import GenerateResponse
from service.images.encoding import CONTENT_TYPES
from service.images.order import Order, make_job, take_order
from service.images.request import GenerateRequest, parse_generate_request

router = APIRouter(tags=["generate"])

EXAMPLES = {
    "one image": {"class_label": 0, "seed": 1},
    "fast": {"class_label": 0, "quality": "fast"},
    "own steps, more guidance": {
        "class_label": 0,
        "cfg_scale": 4.0,
        "num_sampling_steps": 20,
        "sampler": "dpmpp_2m",
    },
    "four images, as JSON": {"class_label": 0, "num_images": 4, "output_format": "webp"},
}
"""They work with any model."""

NO_BUFFERING = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""Proxies that compress hold parts of an answer back; the second header is for nginx."""

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": GenerateRequest.model_json_schema(),
                "examples": {name: {"value": value} for name, value in EXAMPLES.items()},
            }
        },
    }
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_EVENTS = {"schema": {"type": "string"}}
_HEADERS = {
    "ETag": "Equal for the same pictures of the same model in the same form.",
    "X-Seed": "With one image: its seed.",
    "X-Class-Label": "With one image: its class id.",
    "Vary": "For caches: Accept decides the form.",
}
_PICTURES = {
    "description": "The picture, or all pictures as JSON, zip or events, depending on Accept.",
    "headers": {
        name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()
    },
    "model": GenerateResponse,
    "content": dict.fromkeys((*CONTENT_TYPES.values(), ZIP), _BINARY) | {EVENTS: _EVENTS},
}


@router.post(
    "/generate",
    openapi_extra=_BODY,
    response_class=Response,
    responses={
        200: _PICTURES,
        **problem_responses(404, 406, 408, 413, 415, 422, 429, 500, 503, 504),
    },
    summary="Generate images of one class",
)
async def generate(request: Request) -> Response:
    """Answers one image as its bytes and several as JSON, unless Accept asks for another form."""
    context = context_of(request)
    check_json(request.headers)
    wanted = parse_generate_request(await request.body())
    model_info = context.engine.model_info
    order = take_order(wanted, model_info, context.limits)
    accept = ", ".join(request.headers.getlist("accept"))
    form = negotiate(accept, wanted.output_format, len(order.images))
    if form.kind == EVENTS:
        return _stream(request, form, order, model_info, wanted.preview_every)
    job = make_job(order, model_info, request.state.request_id, client=client_of(request))
    result = await result_of(request, job, context.engine.submit(job))
    encoded = await context.encoder.encode_all(result, order, form.output_format)
    return await context.encoder.run(answer, form, order, encoded)


def _stream(
    request: Request, form: AnswerForm, order: Order, model_info: ModelInfo, preview_every: int
) -> Response:
    context = context_of(request)
    box = ProgressBox(asyncio.get_running_loop())
    job = make_job(
        order,
        model_info,
        request.state.request_id,
        client=client_of(request),
        preview_every=preview_every,
        on_progress=box.put,
    )
    stream = EventStream(
        job,
        context.engine.submit(job),
        box,
        order,
        encoder=context.encoder,
        output_format=form.output_format,
        on_error=lambda error: note_error(request, error),
    )
    headers = headers_of(form, order) | NO_BUFFERING
    request.state.filler = PING.encode()
    return EventResponse(stream, headers)
