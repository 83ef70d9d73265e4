"""GET /classes and /models: what the service offers."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Annotated, get_args

from fastapi import APIRouter, Query
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

from model.sampling import ns
from model.sampling.parameters import MAX_CFG_SCALE, MAX_SEED, MIN_CFG_SCALE
from model.sampling.presets import Recipe
from service.engine.class_catalogue import ClassCatalogue, ClassEntry
from service.engine.model_info import ModelInfo
from service.http.content_type import JSON
from service.http.context import context_of, limits_of
from service.http.problems import openai_responses, problem_responses
from service.http.schemas import (
    ClassDescription,
    ModelDescription,
    ModelList,
    RecipeDescription,
)
from service.images.encoding import OutputFormat
from service.images.limits import RequestLimits
from service.images.order import check_model
from service.images.recipe import choose_recipe
from service.images.request import LONGEST_NAME, GenerateRequest

router = APIRouter(tags=["catalogue"])

_MODEL = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "The id that /v1/models gives.",
    "schema": {"type": "string"},
}


@router.get(
    "/classes",
    summary="Class ids, names and synonyms",
    response_model=list[ClassDescription],
    responses=problem_responses(404, 422, 503),
)
async def classes(
    request: Request,
    q: Annotated[
        str, Query(max_length=LONGEST_NAME, description="Part of a name, or a WordNet id.")
    ] = "",
    model: Annotated[
        str | None, Query(max_length=LONGEST_NAME, description="A name that /models gives.")
    ] = None,
) -> Response:
    model_info = context_of(request).engine.model_info
    if model is not None:
        check_model(model, model_info)
    catalogue = model_info.classes
    return Response(await asyncio.to_thread(_found, catalogue, q), media_type=JSON)


@router.get("/models", summary="The model that is served", responses=problem_responses(503))
@router.get(
    "/v1/models",
    summary="The model that is served, as OpenAI's clients ask for it",
    responses=openai_responses(503),
)
async def models(request: Request) -> ModelList:
    model_info = context_of(request).engine.model_info
    return ModelList(data=[describe(model_info, limits_of(request))])


@router.get(
    "/v1/models/{model:path}",
    summary="A model by its id, as OpenAI's clients ask for it",
    responses=openai_responses(404, 503),
    openapi_extra={"parameters": [_MODEL]},
)
async def model(request: Request) -> ModelDescription:
    model_info = context_of(request).engine.model_info
    check_model(request.path_params["model"], model_info)
    return describe(model_info, limits_of(request))


def _found(catalogue: ClassCatalogue, query: str) -> str:
    """The matching classes as JSON, which takes a while for tens of thousands."""
    return _matching(catalogue, query) if query else _all(catalogue)


@lru_cache(maxsize=1)
def _all(catalogue: ClassCatalogue) -> str:
    return _matching(catalogue, "")


def _matching(catalogue: ClassCatalogue, query: str) -> str:
    return f"[{','.join(map(_class_json, catalogue.search(query)))}]"


def _class_json(entry: ClassEntry) -> str:
    return ClassDescription(
        id=entry.id,
        name=entry.name,
        synonyms=list(entry.synonyms),
        wordnet_id=entry.wordnet_id,
    ).model_dump_json()


def describe(model_info: ModelInfo, limits: RequestLimits) -> ModelDescription:
    """The model, and what may be asked of it."""
    cfg_scales = [MIN_CFG_SCALE, MAX_CFG_SCALE] if model_info.guidable else [1.0, 1.0]
    return ModelDescription(
        id=model_info.name,
        created=model_info.loaded_at,
        owned_by=model_info.owner,
        architecture=model_info.architecture,
        image_size=model_info.image_size,
        num_classes=len(model_info.classes),
        dtype=model_info.dtype,
        device=model_info.device,
        digest=model_info.digest,
        licence=model_info.licence,
        limits={
            "cfg_scale": [*cfg_scales],
            "num_sampling_steps": [1, model_info.max_steps],
            "sampler": [*model_info.samplers],
            "fitted": [
                {
                    "num_sampling_steps": solver.num_sampling_steps,
                    "cfg_scale": [solver.low, solver.high],
                }
                for solver in model_info.fitted
            ],
            "ns": [
                {"num_sampling_steps": steps, "cfg_scale": [*ns.CFG_SCALES]}
                for steps in (ns.STEPS if model_info.offers_ns else ())
            ],
            "cfg_channels": [1, model_info.in_channels],
            "seed": [0, MAX_SEED],
            "num_images": [1, limits.max_images],
            "output_format": [*get_args(OutputFormat)],
            "timeout_s": limits.timeout_s,
        },
        presets={
            quality: [_describe_recipe(recipe, model_info) for recipe in recipes]
            for quality, recipes in model_info.presets.items()
        },
        defaults=_defaults(model_info, limits),
    )


def _describe_recipe(recipe: Recipe, model_info: ModelInfo) -> RecipeDescription:
    return RecipeDescription(
        sampler=recipe.sampler,
        num_sampling_steps=min(recipe.num_sampling_steps, model_info.max_steps),
        guidance_interval=recipe.guidance_interval,
        cfg_scale=(recipe.low, recipe.high),
    )


def _defaults(model_info: ModelInfo, limits: RequestLimits) -> dict[str, JsonValue]:
    """What a request gets that names a class alone."""
    cfg_scale = limits.cfg_scale_for(model_info)
    chosen = choose_recipe(GenerateRequest(class_label=0), cfg_scale, model_info, limits)
    return {
        "cfg_scale": cfg_scale,
        "quality": chosen.quality,
        "num_sampling_steps": chosen.recipe.num_sampling_steps,
        "sampler": chosen.recipe.sampler,
        "guidance_interval": [*chosen.recipe.guidance_interval],
        "cfg_channels": limits.cfg_channels_for(model_info),
        "timeout_s": limits.timeout_s,
    }
