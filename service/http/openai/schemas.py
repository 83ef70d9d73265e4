"""Schemas: the JSON answers and events in OpenAI's form, with members of our own."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from service.http.schemas import GenerateSummary
from service.images.encoding import OutputFormat

CREATED = "When it was sent, in seconds since 1970."
SIZE = "Width and height, such as 256x256."
QUALITY = "low, medium or high"


class InputTokens(BaseModel):
    """What was read."""

    image_tokens: int = Field(default=0, description="Always 0: no image is read.")
    text_tokens: int = Field(default=1, description="The class label of the request.")


class Usage(BaseModel):
    """What the transformer worked on, in its own tokens. Nothing is billed by them."""

    input_tokens: int = Field(default=1, description="The class label of the request.")
    input_tokens_details: InputTokens = InputTokens()
    output_tokens: int = Field(description="The patches of the images' latents.")
    total_tokens: int = Field(description="Both together.")

    @classmethod
    def of(cls, images: int, tokens_of_image: int) -> Usage:
        made = images * tokens_of_image
        return cls(output_tokens=made, total_tokens=1 + made)


class ImageData(BaseModel):
    """One image of a request."""

    b64_json: str = Field(description="The file, in base64.")
    seed: int = Field(description="Asked for alone with this seed, it is the same image.")


class Look(BaseModel):
    """What the images of a request look like."""

    background: Literal["opaque"] = Field(default="opaque", description="Always `opaque`.")
    output_format: OutputFormat = Field(description="The format of the files.")
    size: str = Field(description=SIZE)


class ImagesSummary(GenerateSummary, Look):
    """What the images of a request share."""

    created: int = Field(description=CREATED)
    quality: Literal["low", "medium", "high"] | None = Field(
        description=f"The preset: {QUALITY}; null if the request named steps or sampler."
    )
    usage: Usage


class ImagesAnswer(ImagesSummary):
    """All images of a request."""

    data: list[ImageData] = Field(description="In order.")


class EventLook(Look):
    """What each event says of its image."""

    index: int = Field(description="The image's place in the request, from 0.")
    created_at: int = Field(description=CREATED)
    quality: Literal["low", "medium", "high", "auto"] = Field(
        description=f"The preset: {QUALITY}; auto if the request named steps or sampler."
    )
    b64_json: str = Field(description="The file, in base64.")


class PartialImage(EventLook):
    """A preview of an image."""

    type: Literal["image_generation.partial_image"] = Field(
        default="image_generation.partial_image", description="The event's name."
    )
    partial_image_index: int = Field(description="The number of the image's preview, from 0.")


class CompletedImage(EventLook, GenerateSummary):
    """A finished image."""

    type: Literal["image_generation.completed"] = Field(
        default="image_generation.completed", description="The event's name."
    )
    seed: int = Field(description="Asked for alone with this seed, it is the same image.")
    usage: Usage
