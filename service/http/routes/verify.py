"""POST /verify: whether a file made by this service is what its metadata says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request

from service.http.context import client_limits_of, client_of, context_of, limits_of
from service.http.disconnect import result_of
from service.http.problems import problem_responses
from service.images.claim import longest_file, read_claim
from service.images.encoding import CONTENT_TYPES
from service.images.order import Order, make_job, parameters_here
from service.images.verification import Remade, VerifyResponse, compare, early_mismatch

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
    "another model": _UNTOUCHED
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
        "description": "The unchanged file:"
        " `curl --data-binary @picture.png -H 'Content-Type: image/png' localhost:8000/verify`",
        "content": {
            each: {"schema": {"type": "string", "format": "binary"}}
            for each in CONTENT_TYPES.values()
        },
    }
}
_VERDICT = {
    "description": "The verdict. A picture of another model is not an error, but not verified.",
    "content": {
        "application/json": {
            "examples": {name: {"value": value} for name, value in EXAMPLES.items()}
        }
    },
}


@router.post(
    "/verify",
    openapi_extra=_BODY,
    responses={200: _VERDICT, **problem_responses(408, 413, 422, 429, 500, 503, 504)},
    summary="Make a picture again from its metadata, and compare",
)
async def verify(request: Request) -> VerifyResponse:
    """Queues like a request for the same picture, under the same limits."""
    context = context_of(request)
    model_info = context.engine.model_info
    request.state.max_body_bytes = longest_file(model_info.image_size)
    claim = await asyncio.to_thread(read_claim, await request.body())
    mismatch = early_mismatch(claim, model_info)
    if mismatch is not None:
        return mismatch
    sent = await asyncio.to_thread(claim.pixels)
    limits = limits_of(request)
    ours = parameters_here(claim.parameters, model_info, reproducible=limits.reproducible)
    if claim.output_format != "png":
        ours = replace(ours, output_compression=claim.parameters.output_compression)
    order = Order((ours,), limits.timeout_s, elapsed_s=limits.elapsed_s)
    job = make_job(
        order,
        model_info,
        request.state.request_id,
        client=client_of(request),
        client_limits=client_limits_of(request),
    )
    (pixels,) = (await result_of(request, job, context.engine.submit(job))).pixels
    encode = partial(context.encoder.encode, pixels, claim.output_format)
    remade = Remade(ours, pixels, await encode(ours), await encode(claim.parameters, xmp=False))
    return await asyncio.to_thread(compare, claim, sent, remade)
