"""Schemas: the JSON answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, JsonValue, WithJsonSchema
from pydantic.dataclasses import dataclass

from model.sampling.parameters import Sampling


class GeneratedImage(BaseModel):
    index: int
    seed: int
    b64_json: str
    content_type: str


class StageTimings(BaseModel):
    """Seconds in each stage."""

    queue: float
    denoise: float
    decode: float
    encode: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedParameters(Sampling):
    """The parameters of a request's images; `seed` is that of the first."""

    class_name: str
    num_images: int


class GenerateSummary(BaseModel):
    """What the images of a request share."""

    parameters: SharedParameters
    timings: StageTimings
    model: str


class GenerateResponse(GenerateSummary):
    images: list[GeneratedImage]


class ClassDescription(BaseModel):
    id: int
    name: str
    synonyms: list[str]


class ModelDescription(BaseModel):
    id: str
    object: Literal["model"] = "model"
    architecture: str
    image_size: int
    num_classes: int
    dtype: str
    device: str
    digest: str
    licence: str | None
    limits: dict[str, JsonValue]
    defaults: dict[str, JsonValue]


class ModelList(BaseModel):
    """A list of models in the shape that OpenAI's clients expect."""

    object: Literal["list"] = "list"
    data: list[ModelDescription]


class FieldProblem(BaseModel):
    field: str
    message: str
    value: object = None
    allowed: str | None = None


class Problem(BaseModel):
    """An error as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: Annotated[
        list[dict[str, object]] | None,
        WithJsonSchema({"type": "array", "items": FieldProblem.model_json_schema()}),
    ] = Field(default=None, description="With 422: the fields that are wrong.")
    nearest: list[str] | None = Field(
        default=None, description="With 404: the most similar class names."
    )
