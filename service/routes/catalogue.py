"""GET /classes and /models: what can be asked for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request

from service.context import context_of
from service.schemas import MAX_SEED, ClassDescription, ModelDescription

router = APIRouter(tags=["catalogue"])


@router.get("/classes", summary="Class ids, names and synonyms")
async def classes(
    request: Request,
    q: Annotated[str, Query(max_length=200, description="Part of a name.")] = "",
) -> list[ClassDescription]:
    catalogue = context_of(request).engine.served.classes
    return [
        ClassDescription(id=entry.id, name=entry.name, synonyms=list(entry.synonyms))
        for entry in catalogue.search(q)
    ]


@router.get("/models", summary="The model that is served")
@router.get("/v1/models", include_in_schema=False)
async def models(request: Request) -> list[ModelDescription]:
    context = context_of(request)
    served, policy = context.engine.served, context.policy
    return [
        ModelDescription(
            id=served.name,
            architecture=served.architecture,
            image_size=served.image_size,
            num_classes=len(served.classes),
            dtype=served.dtype,
            device=served.device,
            digest=served.digest,
            licence=served.licence,
            limits={
                "cfg_scale": [1.0, 20.0],
                "num_sampling_steps": [1, served.schedule.num_train_timesteps],
                "seed": [0, MAX_SEED],
                "num_images": [1, policy.max_images],
                "timeout_s": policy.timeout_s,
            },
            defaults={
                "cfg_scale": policy.cfg_scale,
                "num_sampling_steps": policy.num_sampling_steps,
                "sampler": policy.sampler,
            },
        )
    ]
