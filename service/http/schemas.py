"""Schemas: the JSON answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, WithJsonSchema
from pydantic.dataclasses import dataclass

from model.sampling.parameters import ChannelCount, SamplerName, Sampling
from model.sampling.presets import Quality
from service.images.meanings import add_meanings
from service.images.parameters import is_absent


class GeneratedImage(BaseModel):
    """One image of a request."""

    index: int = Field(description="Its place in the request, from 0.")
    seed: int = Field(description="Asked for alone with this seed, it is the same image.")
    b64_json: str = Field(description="The file, in base64.")
    content_type: str = Field(description="The file's type, such as image/png.")


class StageTimings(BaseModel):
    """Seconds in each stage."""

    queue: float = Field(description="Waiting for its first step.")
    denoise: float = Field(description="All steps of all its images.")
    decode: float = Field(description="From latents to pixels.")
    encode: float = Field(description="From pixels to files.")


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(json_schema_extra=add_meanings))
class SharedParameters(Sampling):
    """The parameters of a request's images; `seed` is that of the first."""

    cfg_channels: ChannelCount | None = Field(default=None, exclude_if=is_absent)
    class_name: str
    num_images: int
    quality: Quality | None


class GenerateSummary(BaseModel):
    """What the images of a request share."""

    parameters: SharedParameters = Field(description="As requested, with all defaults filled in.")
    timings: StageTimings = Field(description="How long each stage took.")
    model: str = Field(description="The model that made them.")


class GenerateResponse(GenerateSummary):
    """All images of a request."""

    images: list[GeneratedImage] = Field(description="In order.")


class ClassDescription(BaseModel):
    """A class that can be asked for."""

    id: int = Field(description="Its id, for `class_label`.")
    name: str = Field(description="Its name, which `class_label` takes as well.")
    synonyms: list[str] = Field(description="Other names that `class_label` takes.")
    wordnet_id: str | None = Field(
        description="Its WordNet id, such as n02099601, if it is known; `class_label` takes it, too."
    )


class RecipeDescription(BaseModel):
    """How a quality samples for a range of guidance."""

    sampler: SamplerName = Field(description="Its sampler.")
    num_sampling_steps: int = Field(description="Its steps.")
    guidance_interval: tuple[float, float] = Field(description="Where guidance applies.")
    cfg_scale: tuple[float, float] = Field(description="The guidance that it is meant for.")


class ModelDescription(BaseModel):
    """A model, and what can be asked of it."""

    id: str = Field(description="Its name.")
    object: Literal["model"] = Field(default="model", description="Always `model`.")
    created: int = Field(description="When it was loaded, in seconds since 1970.")
    owned_by: str = Field(description="Whom it belongs to, as far as its name tells.")
    architecture: str = Field(description="Its configuration, such as DiT-XL/2.")
    image_size: int = Field(description="Width and height of its images, in pixels.")
    num_classes: int = Field(description="How many classes it knows.")
    dtype: str = Field(description="The numbers that it computes with, such as bfloat16.")
    device: str = Field(description="What it runs on, such as cpu or cuda:0.")
    digest: str = Field(description="A SHA-256 of its weights, in hexadecimal.")
    licence: str | None = Field(description="The licence of its weights, if it is known.")
    limits: dict[str, JsonValue] = Field(
        description="By field of a request: its lowest and highest value, or its choices."
    )
    presets: dict[Quality, list[RecipeDescription]] = Field(
        description="By quality: the first entry whose range holds the guidance applies."
    )
    defaults: dict[str, JsonValue] = Field(
        description="By field of a request: its value where the request names none."
    )


class ModelList(BaseModel):
    """A list of models in the shape that OpenAI's clients expect."""

    object: Literal["list"] = Field(default="list", description="Always `list`.")
    data: list[ModelDescription] = Field(description="The models that are served.")


class FieldProblem(BaseModel):
    """A field that is wrong."""

    field: str = Field(description="Its name, as the request has it.")
    message: str = Field(description="What is wrong with it.")
    value: object = Field(default=None, description="What the request has, cut short if long.")
    allowed: str | None = Field(default=None, description="What it may be.")


class Problem(BaseModel):
    """An error as RFC 9457 describes it."""

    type: str = Field(description="Identifies the kind of error to programs.")
    title: str = Field(description="The kind of error, in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong with this request.")
    request_id: str = Field(description="As in X-Request-Id and in the log.")
    errors: Annotated[
        list[dict[str, object]] | None,
        WithJsonSchema({"type": "array", "items": FieldProblem.model_json_schema()}),
    ] = Field(default=None, description="With 422: the fields that are wrong.")
    nearest: list[str] | None = Field(
        default=None, description="With 404: the most similar class names."
    )
    key: str | None = Field(
        default=None, description="With 429, of a limit of an API key: the key's name."
    )
    limit: str | None = Field(default=None, description="With 429: that limit's name.")


class OpenAIError(BaseModel):
    """An error as OpenAI's clients read it."""

    message: str = Field(description="What is wrong with this request.")
    type: str = Field(description="invalid_request_error, rate_limit_error or server_error.")
    param: str | None = Field(description="The field that is at fault, if one is.")
    code: str = Field(description="Identifies the kind of error to programs, such as queue_full.")
    errors: Annotated[
        list[dict[str, object]] | None,
        WithJsonSchema({"type": "array", "items": FieldProblem.model_json_schema()}),
    ] = Field(default=None, description="With 422: the fields that are wrong.")
    nearest: list[str] | None = Field(
        default=None, description="With 404: the most similar class names."
    )
    key: str | None = Field(
        default=None, description="With 429, of a limit of an API key: the key's name."
    )
    limit: str | None = Field(default=None, description="With 429: that limit's name.")


class OpenAIProblem(BaseModel):
    """Every error below /v1."""

    error: Annotated[OpenAIError, WithJsonSchema(OpenAIError.model_json_schema())] = Field(
        description="The error."
    )
