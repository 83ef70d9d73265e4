"""GET /classes and /models: what can be asked for."""

from __future__ import annotations

from typing import Annotated, get_args

from fastapi import APIRouter, Query
from starlette.requests import Request

from service.engine.model_info import ModelInfo
from service.http.context import context_of
from service.http.problems import problem_responses
from service.http.schemas import (
    LONGEST_NAME,
    ClassDescription,
    ModelDescription,
    ModelList,
    OutputFormat,
    Sampler,
)
from service.images.order import RequestLimits
from service.images.request import bounds

router = APIRouter(tags=["catalogue"])


@router.get(
    "/classes", summary="Class ids, names and synonyms", responses=problem_responses(422, 503)
)
async def classes(
    request: Request,
    q: Annotated[str, Query(max_length=LONGEST_NAME, description="Part of a name.")] = "",
) -> list[ClassDescription]:
    catalogue = context_of(request).engine.served.classes
    return [
        ClassDescription(id=entry.id, name=entry.name, synonyms=list(entry.synonyms))
        for entry in catalogue.search(q)
    ]


@router.get("/models", summary="The model that is served", responses=problem_responses(503))
@router.get("/v1/models", include_in_schema=False)
async def models(request: Request) -> ModelList:
    context = context_of(request)
    return ModelList(data=[_describe(context.engine.served, context.policy)])


def _describe(served: ModelInfo, policy: RequestLimits) -> ModelDescription:
    return ModelDescription(
        id=served.name,
        architecture=served.architecture,
        image_size=served.image_size,
        num_classes=len(served.classes),
        dtype=served.dtype,
        device=served.device,
        digest=served.digest,
        licence=served.licence,
        limits={
            "cfg_scale": [*bounds("cfg_scale")] if served.guidable else [1.0, 1.0],
            "num_sampling_steps": [1, served.schedule.num_train_timesteps],
            "sampler": [*get_args(Sampler)],
            "seed": [*bounds("seed")],
            "num_images": [1, policy.max_images],
            "output_format": [*get_args(OutputFormat)],
            "timeout_s": policy.timeout_s,
        },
        defaults={
            "cfg_scale": policy.cfg_scale_of(served),
            "num_sampling_steps": policy.num_sampling_steps,
            "sampler": policy.sampler,
            "timeout_s": policy.timeout_s,
        },
    )
