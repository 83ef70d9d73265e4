"""The wire's types: what a request may say, and what is answered in JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    WithJsonSchema,
)

MAX_SEED = 2**63 - 1
MIN_CFG_SCALE, MAX_CFG_SCALE = 1.0, 20.0
MAX_STEPS = 1000
LONGEST_NAME = 200
LARGEST_IMAGE = 65_536
Sampler = Literal["ddim", "ddpm", "dpmpp_2m"]
OutputFormat = Literal["png", "webp", "jpeg"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _in_order(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("must not end before it begins")
    return interval


def _writable(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("Input should be text without lone surrogates")
    return text


Text = Annotated[str, AfterValidator(_writable)]
Interval = Annotated[tuple[Share, Share], AfterValidator(_in_order)]


class GenerateRequest(BaseModel):
    """A request for one or more images of one class."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
    )

    class_label: int | Annotated[str, Field(max_length=LONGEST_NAME)] = Field(
        validation_alias=AliasChoices("class_label", "class_id"),
        description="Class id, or a name or synonym from /classes. Also accepted as class_id.",
    )
    cfg_scale: float | None = Field(
        default=None,
        ge=MIN_CFG_SCALE,
        le=MAX_CFG_SCALE,
        validation_alias=AliasChoices("cfg_scale", "guidance_scale"),
        description="Classifier-free guidance; 1 is none. Default: the server's. Also accepted as"
        " guidance_scale.",
    )
    num_sampling_steps: int | None = Field(
        default=None,
        ge=1,
        le=MAX_STEPS,
        validation_alias=AliasChoices("num_sampling_steps", "num_inference_steps"),
        description="Denoising steps. Default: the server's. Also accepted as num_inference_steps.",
    )
    sampler: Sampler | None = Field(default=None, description="Default: the server's.")
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="Drawn when absent; always returned."
    )
    num_images: int = Field(default=1, ge=1, description="At most the server's limit, see /models.")
    guidance_interval: Interval = Field(
        default=(0.0, 1.0),
        strict=False,  # JSON knows no tuples; the shares in it stay strict
        description="Share of the noise range, 0 (picture) to 1 (noise), in which guidance applies.",
    )
    output_format: OutputFormat | None = Field(
        default=None, description="Default: what Accept names, else png."
    )
    timeout_s: float | None = Field(
        default=None, gt=0, description="This request's deadline in seconds; at most the server's."
    )
    preview_every: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="A preview every so many steps, 0 for none; it means nothing unless the answer"
        " is text/event-stream.",
    )


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


class SharedParameters(BaseModel):
    """What a request's images were made with; `seed` is the first one's."""

    class_label: int
    class_name: str
    cfg_scale: float
    num_sampling_steps: int
    sampler: Sampler
    guidance_interval: tuple[float, float]
    seed: int
    num_images: int


class GenerateResponse(BaseModel):
    images: list[GeneratedImage]
    parameters: SharedParameters
    timings: StageTimings
    model: str


class PictureMetadata(BaseModel):
    """The `dit` text of a PNG: everything that determined the picture."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    class_label: int = Field(ge=0)
    class_name: Text
    cfg_scale: float = Field(ge=MIN_CFG_SCALE, le=MAX_CFG_SCALE)
    num_sampling_steps: int = Field(ge=1, le=MAX_STEPS)
    sampler: Sampler
    seed: int = Field(ge=0, le=MAX_SEED)
    guidance_interval: Interval = Field(strict=False)  # as in a request
    image_size: int = Field(ge=1, le=LARGEST_IMAGE)
    model: Text
    model_digest: str = Field(pattern="^[0-9a-f]{64}$")
    dtype: Text
    reproducible: bool
    version: Text


class VerifyResponse(BaseModel):
    """What came of making a picture again."""

    verified: bool = Field(
        description="The picture is what its metadata says: pixels and parameters agree."
    )
    bytes_equal: bool = Field(description="The very bytes of the file came out again.")
    max_pixel_difference: int | None = Field(
        default=None,
        description="The most by which a channel of a pixel differs, of 255; null where the picture"
        " was not made again.",
    )
    reproducible: bool = Field(
        description="Both the picture and this service are of reproducible mode, where not a bit"
        " may differ; else 1 of 255 is let pass as rounding."
    )
    parameters: PictureMetadata
    reason: str | None = Field(
        default=None, description="Why the bytes are not equal; null where they are."
    )


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
    """In the shape in which OpenAI's clients expect a list of models."""

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
    ] = Field(default=None, description="Of 422: the wrong fields.")
    nearest: list[str] | None = Field(
        default=None, description="Of 404: the class names most like it."
    )
