"""POST /verify: whether a PNG that this service made is what its metadata says."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request

from service.http.context import client_of, context_of
from service.http.disconnect import result_of
from service.http.problems import problem_responses
from service.http.schemas import VerifyResponse
from service.images.encoding import CONTENT_TYPES
from service.images.order import make_job, take_order
from service.images.verification import early_mismatch, longest_file, read_claim, verdict

router = APIRouter(tags=["generate"])

_PARAMETERS = {
    "class_label": 0,
    "class_name": "apple",
    "cfg_scale": 2.0,
    "num_sampling_steps": 50,
    "sampler": "ddim",
    "seed": 1,
    "guidance_interval": [0.0, 1.0],
    "image_size": 64,
    "model": "bundled",
    "model_digest": "0123456789abcdef" * 4,
    "dtype": "float32",
    "reproducible": True,
    "version": "0.1.0",
}
_UNTOUCHED = {
    "verified": True,
    "bytes_equal": True,
    "max_pixel_difference": 0,
    "reproducible": True,
    "parameters": _PARAMETERS,
    "reason": None,
}
EXAMPLES = {
    "untouched": _UNTOUCHED,
    "touched": _UNTOUCHED
    | {
        "verified": False,
        "bytes_equal": False,
        "max_pixel_difference": 97,
        "reason": "the pixels differ by up to 97 of 255",
    },
    "another model's": _UNTOUCHED
    | {
        "verified": False,
        "bytes_equal": False,
        "max_pixel_difference": None,
        "reproducible": False,
        "reason": "made by another model: bundled, digest 0123...; this service runs DiT-XL-2-256,"
        " digest 4567...",
    },
}
_BODY = {
    "requestBody": {
        "required": True,
        "description": "The file as it came:"
        " `curl --data-binary @picture.png -H 'Content-Type: image/png' localhost:8000/verify`",
        "content": {CONTENT_TYPES["png"]: {"schema": {"type": "string", "format": "binary"}}},
    }
}
_VERDICT = {
    "description": "What came of it. A picture of another model is no error, but not verified.",
    "content": {
        "application/json": {
            "examples": {name: {"value": value} for name, value in EXAMPLES.items()}
        }
    },
}


@router.post(
    "/verify",
    openapi_extra=_BODY,
    responses={200: _VERDICT, **problem_responses(413, 422, 429, 500, 503, 504)},
    summary="Make a picture again from its metadata, and compare",
)
async def verify(request: Request) -> VerifyResponse:
    """Queues like a request for the same picture, under the same limits."""
    context = context_of(request)
    served = context.engine.served
    request.state.max_body_bytes = longest_file(served.image_size)
    claim = await asyncio.to_thread(read_claim, await request.body())
    at_once = early_mismatch(claim, served)
    if at_once is not None:
        return at_once
    order = take_order(claim.request(), served, context.policy)
    job = make_job(order, served, request.state.request_id, client=client_of(request))
    result = await result_of(request, job, context.engine.submit(job))
    (pixels,) = result.pixels
    (parameters,) = order.images
    file = await context.encoder.encode(pixels, "png", parameters)
    return await asyncio.to_thread(verdict, claim, parameters, pixels, file)
