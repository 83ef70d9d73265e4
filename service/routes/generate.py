"""POST /generate: class label and guidance in, pictures out."""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.answers import answer, headers_of
from service.body import parse_generate_request
from service.context import Context, context_of
from service.errors import ClientGone, DeadlinePassed
from service.events import EventStream, ProgressBox
from service.generation import Order, make_job, take_order
from service.images import CONTENT_TYPES
from service.jobs import Job, JobResult
from service.negotiation import EVENTS, ZIP, AnswerForm, negotiate
from service.problems import problem_responses
from service.schemas import GenerateRequest, GenerateResponse
from service.served import ServedModel

router = APIRouter(tags=["generate"])

EXAMPLES = {
    "one image": {"class_label": 0, "seed": 1},
    "few steps, more guidance": {
        "class_label": 0,
        "cfg_scale": 4.0,
        "num_sampling_steps": 20,
        "sampler": "dpmpp_2m",
    },
    "four images, as JSON": {"class_label": 0, "num_images": 4, "output_format": "webp"},
}
"""They run as they stand on any model."""

LATE_S = 5.0
"""How long after its deadline a request waits for the engine to end it."""

NO_BUFFERING = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the latter for nginx

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": GenerateRequest.model_json_schema(),
                "examples": {name: {"value": value} for name, value in EXAMPLES.items()},
            }
        },
    }
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_EVENTS = {"schema": {"type": "string"}}
_PICTURES = {
    "description": "The picture, or all of them as JSON, zip or events, as Accept says.",
    "model": GenerateResponse,
    "content": dict.fromkeys((*CONTENT_TYPES.values(), ZIP), _BINARY) | {EVENTS: _EVENTS},
}


@router.post(
    "/generate",
    openapi_extra=_BODY,
    response_class=Response,
    responses={200: _PICTURES, **problem_responses(404, 406, 413, 422, 429, 500, 503, 504)},
    summary="Generate images of one class",
)
async def generate(request: Request) -> Response:
    """Answers one image as its bytes and several as JSON, unless Accept asks for another form."""
    context = context_of(request)
    wanted = parse_generate_request(await request.body())
    served = context.engine.served
    order = take_order(wanted, served, context.policy)
    accept = ", ".join(request.headers.getlist("accept"))
    form = negotiate(accept, wanted.output_format, len(order.images))
    if form.kind == EVENTS:
        return _events(request, form, order, served, wanted.preview_every)
    job = make_job(order, served, request.state.request_id, client=_client_of(request))
    context.engine.submit(job)
    result = await _result(request, job)
    return answer(form, order, await context.encoder.encode_all(result, order, form.output_format))


async def _result(request: Request, job: Job) -> JobResult:
    """The job's result, unless the client leaves first.

    Raises:
        ClientGone: it left; the job ends at the next tick.
        DeadlinePassed: the engine itself did not say so, being stuck in a tick.
        ServiceError: what the job failed with.
    """
    done = asyncio.wrap_future(job.future)
    left = asyncio.ensure_future(_left(request))
    either: set[asyncio.Future[JobResult] | asyncio.Future[None]] = {done, left}
    try:
        patience = job.deadline - time.monotonic() + LATE_S
        await asyncio.wait(either, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        if left.done():
            raise ClientGone("the client closed the connection")
        raise DeadlinePassed("the request's deadline passed, and the device has not answered since")
    finally:
        left.cancel()
        job.cancel()
        done.add_done_callback(_seen)


async def _left(request: Request) -> None:
    """Return when the client hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _seen(future: asyncio.Future[JobResult]) -> None:
    """Nobody waits for this answer any more, so its exception needs no complaint."""
    if not future.cancelled():
        future.exception()


def _client_of(request: Request) -> str:
    """Whose request it is: the address of the peer, or what a trusted proxy says it is."""
    return request.client.host if request.client is not None else ""


def _events(
    request: Request, form: AnswerForm, order: Order, served: ServedModel, preview_every: int
) -> Response:
    context: Context = context_of(request)
    box = ProgressBox(asyncio.get_running_loop())
    job = make_job(
        order,
        served,
        request.state.request_id,
        client=_client_of(request),
        preview_every=preview_every,
        on_progress=box.put,
    )
    context.engine.submit(job)
    stream = EventStream(
        job,
        box,
        order,
        encoder=context.encoder,
        output_format=form.output_format,
        on_error=lambda status: setattr(request.state, "status", status),
    )
    headers = headers_of(form, order) | NO_BUFFERING
    return StreamingResponse(stream.events(), media_type=EVENTS, headers=headers)
