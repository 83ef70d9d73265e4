"""POST /generate: class label and guidance in, pictures out."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.http.answers import answer, headers_of, unchanged
from service.http.content_type import JSON, check_json
from service.http.context import client_limits_of, client_of, context_of, limits_of
from service.http.disconnect import result_of
from service.http.events import GenerateEvents, stream_events
from service.http.negotiation import EVENTS, ZIP, negotiate
from service.http.problems import problem_responses
from service.http.schemas import GenerateResponse
from service.images.encoding import CONTENT_TYPES
from service.images.order import make_job, take_order
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

_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags of pictures that the client has. In reproducible mode, a request with a seed"
    " for the same pictures is answered with 304, and nothing is drawn.",
    "schema": {"type": "string"},
}
_BODY = {
    "parameters": [_IF_NONE_MATCH],
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": GenerateRequest.model_json_schema(),
                "examples": {name: {"value": value} for name, value in EXAMPLES.items()},
            }
        },
    },
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_HEADERS = {
    "ETag": "Equal for the same pictures of the same model in the same form; weak, with W/ before it,"
    " where their bytes may differ.",
    "X-Seed": "With one image: its seed.",
    "X-Class-Label": "With one image: its class id.",
    "Vary": "For caches: Accept decides the form.",
}
_DESCRIBED = {
    name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()
}
_PICTURES = {
    "description": "The picture, or all pictures as JSON, zip or events, depending on Accept.",
    "headers": _DESCRIBED,
    "model": GenerateResponse,
    "content": dict.fromkeys((*CONTENT_TYPES.values(), ZIP), _BINARY) | {EVENTS: {}},
}
_UNCHANGED = {
    "description": "The client has these pictures, as its If-None-Match says. Nothing was drawn.",
    "headers": _DESCRIBED,
}


@router.post(
    "/generate",
    openapi_extra=_BODY,
    response_class=Response,
    responses={
        200: _PICTURES,
        304: _UNCHANGED,
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
    order = take_order(wanted, model_info, limits_of(request))
    accept = ", ".join(request.headers.getlist("accept"))
    form = negotiate(accept, wanted.output_format, len(order.images))
    if form.kind == EVENTS:
        return stream_events(
            request,
            order,
            model_info,
            output_format=form.output_format,
            wording=GenerateEvents(form.output_format),
            headers=headers_of(form, order),
            preview_every=wanted.preview_every,
        )
    if wanted.seed is not None:  # a seed that is drawn now gives pictures that nobody has
        same = unchanged(form, order, request.headers.getlist("if-none-match"))
        if same is not None:
            return same
    job = make_job(
        order,
        model_info,
        request.state.request_id,
        client=client_of(request),
        client_limits=client_limits_of(request),
    )
    result = await result_of(request, job, context.engine.submit(job))
    encoded = await context.encoder.encode_all(result, order, form.output_format)
    return await context.encoder.run(answer, form, order, encoded)
