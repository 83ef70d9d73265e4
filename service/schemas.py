"""The wire's types: what a request may say, and what is answered in JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from service.errors import FieldError, InvalidRequest

MAX_SEED = 2**63 - 1
Sampler = Literal["ddim", "ddpm", "dpmpp_2m"]
OutputFormat = Literal["png", "webp", "jpeg"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class GenerateRequest(BaseModel):
    """A request for one or more images of one class."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"class_label": 1, "seed": 1},
                {
                    "class_label": 1,
                    "cfg_scale": 2.0,
                    "num_sampling_steps": 20,
                    "sampler": "dpmpp_2m",
                },
            ]
        },
    )

    class_label: int | str = Field(
        validation_alias=AliasChoices("class_label", "class_id"),
        description="Class id, or a name or synonym from /classes.",
    )
    cfg_scale: float | None = Field(
        None,
        ge=1.0,
        le=20.0,
        validation_alias=AliasChoices("cfg_scale", "guidance_scale"),
        description="Classifier-free guidance; 1 is none. Default: the server's.",
    )
    num_sampling_steps: int | None = Field(
        None,
        ge=1,
        le=1000,
        validation_alias=AliasChoices("num_sampling_steps", "num_inference_steps"),
        description="Denoising steps. Default: the server's.",
    )
    sampler: Sampler | None = Field(None, description="Default: the server's.")
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="Drawn when absent; always returned."
    )
    num_images: int = Field(1, ge=1, description="At most the server's limit, see /models.")
    guidance_interval: tuple[Share, Share] = Field(
        (0.0, 1.0), description="Share of the noise range in which guidance is applied."
    )
    output_format: OutputFormat | None = Field(
        None, description="Default: what Accept names, else png."
    )
    timeout_s: float | None = Field(
        None, gt=0, description="This request's deadline in seconds; at most the server's."
    )
    preview_every: int = Field(
        0, ge=0, le=1000, description="With text/event-stream: a preview every so many steps."
    )

    @field_validator("guidance_interval")
    @classmethod
    def _in_order(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if interval[0] > interval[1]:
            raise ValueError("must not end before it begins")
        return interval


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


class GenerateResponse(BaseModel):
    images: list[GeneratedImage]
    parameters: dict[str, object]
    timings: StageTimings
    model: str


class ClassDescription(BaseModel):
    id: int
    name: str
    synonyms: list[str]


class ModelDescription(BaseModel):
    id: str
    architecture: str
    image_size: int
    num_classes: int
    dtype: str
    device: str
    digest: str
    licence: str | None
    limits: dict[str, object]
    defaults: dict[str, object]


class Problem(BaseModel):
    """An error as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str


def parse_generate_request(body: bytes) -> GenerateRequest:
    """Read a body, whatever its bytes.

    Raises:
        InvalidRequest: it is no JSON object, or a field is wrong; every wrong field is named.
    """
    try:
        return GenerateRequest.model_validate_json(body)
    except ValidationError as error:
        wrong: dict[str, FieldError] = {}
        for each in error.errors(include_url=False):
            name = str(each["loc"][0]) if each["loc"] else "body"
            wrong.setdefault(name, _explain(name, each["type"], each["msg"], each["input"]))
        raise InvalidRequest(*wrong.values()) from None


def _explain(name: str, kind: str, message: str, value: object) -> FieldError:
    if name == "body":
        reason = message.removeprefix("Invalid JSON: ")
        return FieldError("body", f"must be a JSON object ({reason})", None, "a JSON object")
    allowed = allowed_values(name)
    if allowed is None:
        return FieldError(name[:100], "is not a field of this request", value)
    if kind == "extra_forbidden":
        return FieldError(name, f"says again what {_canonical(name)} or its alias says", value)
    if kind == "missing" and name == "class_label":
        return FieldError(name, f"is required: {allowed}", None, allowed)
    return FieldError(name, f"must be {allowed}", value, allowed)


def allowed_values(name: str) -> str | None:
    """What a field may be, in words; None where there is no such field."""
    fixed = {
        "class_label": "a class id, or a class name, see /classes",
        "sampler": "ddim, ddpm or dpmpp_2m",
        "output_format": "png, webp or jpeg",
        "guidance_interval": "[low, high] with 0 <= low <= high <= 1",
        "preview_every": "0 (none) .. 1000",
        "timeout_s": "more than 0, at most the server's limit, see /models",
        "num_images": "1 or more, at most the server's limit, see /models",
    }
    field_name = _canonical(name)
    if field_name is None or field_name in fixed:
        return fixed.get(field_name or "")
    metadata = GenerateRequest.model_fields[field_name].metadata
    low = next(each.ge for each in metadata if isinstance(each, Ge))
    high = next(each.le for each in metadata if isinstance(each, Le))
    return f"{low} .. {high}"


def _canonical(name: str) -> str | None:
    for field_name, field in GenerateRequest.model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [field_name]
        if name in names:
            return field_name
    return None
