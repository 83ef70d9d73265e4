"""GenerateRequest: what a client may ask for."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import doc
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from model.sampling.parameters import (
    CfgScale,
    ChannelCount,
    GuidanceInterval,
    SamplerName,
    Seed,
    StepCount,
)
from model.sampling.presets import Quality
from service.images.encoding import OutputFormat
from service.images.fields import read_fields
from service.images.json_object import read_json_object

LONGEST_NAME = 200
NAMED_STEPS = 50
"""What a request takes that names only a sampler, as far as the server has no default."""


def allow_null(schema: dict[str, Any]) -> None:
    """Say of every field with a default that it may be null, as `read_fields` has it."""
    for name, own in schema["properties"].items():
        if name not in schema.get("required", ()) and "anyOf" not in own:
            about = {key: own.pop(key) for key in ("title", "description", "default") if key in own}
            schema["properties"][name] = {"anyOf": [own, {"type": "null"}]} | about


class GenerateRequest(BaseModel):
    """A request for one or more images of one class."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        json_schema_extra=allow_null,
    )

    class_label: Annotated[
        int | Annotated[str, Field(max_length=LONGEST_NAME)],
        doc("a class id, or a class name, see /classes"),
    ] = Field(
        validation_alias=AliasChoices("class_label", "class_id"),
        description="Class id, or a name, synonym or WordNet id from /classes. Also accepted as"
        " class_id.",
    )
    cfg_scale: CfgScale | None = Field(
        default=None,
        validation_alias=AliasChoices("cfg_scale", "guidance_scale"),
        description="Classifier-free guidance; 1 means none. Default: the server's. Also accepted as"
        " guidance_scale.",
    )
    quality: Quality | None = Field(
        default=None,
        description="A preset of sampler, steps and guidance interval; /models lists what each means."
        " Default: the server's, if neither steps nor sampler are named.",
    )
    num_sampling_steps: StepCount | None = Field(
        default=None,
        validation_alias=AliasChoices("num_sampling_steps", "num_inference_steps"),
        description="Denoising steps, in place of a quality. Also accepted as num_inference_steps.",
    )
    sampler: SamplerName | None = Field(default=None, description="In place of a quality.")
    seed: Seed | None = Field(
        default=None, description="Drawn at random when absent; always returned."
    )
    num_images: Annotated[int, doc("an integer from 1 to the server's limit, see /models")] = Field(
        default=1, ge=1, description="At most the server's limit, see /models."
    )
    guidance_interval: GuidanceInterval | None = Field(
        default=None,
        description="The part of the noise range, from 0 (picture) to 1 (noise), in which guidance"
        " applies. Default: the quality's, or all of it.",
    )
    cfg_channels: Annotated[
        ChannelCount | None, doc("an integer from 1 to the model's channels, see /models")
    ] = Field(
        default=None,
        description="Limit guidance to so many first channels of the noise, 3 for the official samples."
        " Default: the server's, usually all.",
    )
    output_format: OutputFormat | None = Field(
        default=None, description="Default: the format that Accept names, else png."
    )
    model: Annotated[str | None, Field(max_length=LONGEST_NAME)] = Field(
        default=None,
        description="The name of a model that is served, see /models. Default: the first of them.",
    )
    timeout_s: Annotated[
        float | None, doc("more than 0, at most the server's limit, see /models")
    ] = Field(
        default=None, gt=0, description="This request's deadline in seconds; at most the server's."
    )
    preview_every: Annotated[int, doc("an integer from 0 (none) to 1000")] = Field(
        default=0,
        ge=0,
        le=1000,
        description="Send a preview every this many steps; 0 sends none. Only used with"
        " text/event-stream.",
    )


def parse_generate_request(body: bytes) -> GenerateRequest:
    """Read a request's body, whatever its bytes.

    Raises:
        InvalidRequest: it is not a JSON object, or fields are wrong; every wrong field is named.
    """
    return read_fields(GenerateRequest, read_json_object(body), "this request")
