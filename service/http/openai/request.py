"""ImagesRequest: the body of POST /v1/images/generations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Annotated, Any, Literal

from annotated_types import doc
from pydantic import BaseModel, ConfigDict, Field

from service.errors import FieldError, InvalidRequest
from service.images.encoding import OutputFormat
from service.images.fields import MOST_UNKNOWN, names_of, read_fields
from service.images.json_object import read_json_object
from service.images.request import GenerateRequest, allow_null

QualityName = Literal["auto", "low", "medium", "high", "standard", "hd"]

PRESETS: MappingProxyType[str | None, str | None] = MappingProxyType(
    {
        None: None,
        "auto": None,
        "standard": None,
        "low": "fast",
        "medium": "balanced",
        "high": "best",
        "hd": "best",
    }
)
"""Our qualities, by OpenAI's words."""

MOST_PARTIAL_IMAGES = 3
PLACE = "this request"
PROMPT = "a class name, synonym or id, see /classes"


class ImagesRequest(BaseModel):
    """A request as OpenAI's clients send it. The fields of POST /generate can be sent beside these."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, json_schema_extra=allow_null
    )

    prompt: Annotated[str | None, doc(PROMPT)] = Field(
        default=None,
        description="A class name, synonym, id or WordNet id from /classes. Required unless"
        " class_label is given, which goes before it.",
    )
    model: str | None = Field(
        default=None, description="The id of the model that is served. Default: this one."
    )
    n: Annotated[int, doc("an integer from 1 to the server's limit, see /models")] = Field(
        default=1, ge=1, description="How many images; at most the server's limit, see /models."
    )
    size: str | None = Field(
        default=None, description="auto, or the only size that the model has, such as 256x256."
    )
    quality: QualityName | None = Field(
        default=None,
        description="low, medium and high are the presets fast, balanced and best; auto is the"
        " server's default. Of earlier models, standard is auto and hd is high.",
    )
    output_format: OutputFormat | None = Field(default=None, description="Default: png.")
    output_compression: Annotated[int | None, doc("an integer from 0 to 100")] = Field(
        default=None,
        ge=0,
        le=100,
        description="The quality of webp and jpeg, from 0 (smallest) to 100 (best); default 95. png"
        " has no loss, and only 100.",
    )
    response_format: Annotated[
        Literal["b64_json"] | None,
        doc("b64_json: pictures are in the answer, and not kept for a url to lead to"),
    ] = Field(default=None, description="b64_json, as pictures are not kept for a url.")
    background: Annotated[
        Literal["auto", "opaque"] | None, doc("auto or opaque: the model has no transparency")
    ] = Field(default=None, description="auto or opaque, which are the same.")
    moderation: Annotated[
        Literal["auto", "low"] | None,
        doc("auto or low: prompts are class names, and not moderated"),
    ] = Field(default=None, description="auto or low; without effect.")
    style: Annotated[
        Literal["auto"] | None, doc("auto or absent: the model has no styles to choose from")
    ] = Field(default=None, description="auto; without effect.")
    user: str | None = Field(default=None, description="Without effect.")
    safety_identifier: str | None = Field(default=None, description="Without effect.")
    stream: bool | None = Field(
        default=None, description="Answer with server-sent events, whatever Accept says."
    )
    partial_images: Annotated[int, doc(f"an integer from 0 to {MOST_PARTIAL_IMAGES}")] = Field(
        default=0,
        ge=0,
        le=MOST_PARTIAL_IMAGES,
        description="With stream: previews of each image, at even steps.",
    )


IN_OTHER_WORDS = frozenset({"model", "num_images", "output_format", "quality", "preview_every"})
OWN = names_of(ImagesRequest)
BESIDE = {
    name: field for name, field in names_of(GenerateRequest).items() if field not in IN_OTHER_WORDS
}
"""The fields of POST /generate that a request can have, too: by each of their names, the field."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request in OpenAI's words, and the members that it has of POST /generate's."""

    own: ImagesRequest
    beside: Mapping[str, object]

    @property
    def has_class_label(self) -> bool:
        return any(BESIDE[name] == "class_label" for name in self.beside)


def parse_images_request(body: bytes) -> Asked:
    """Read a request's body, whatever its bytes.

    Raises:
        InvalidRequest: it is not a JSON object, or fields are wrong; every wrong field is named.
    """
    content = read_json_object(body)
    given = {name: value for name, value in content.items() if value is not None}
    own = {name: value for name, value in given.items() if name in OWN}
    beside = {name: value for name, value in given.items() if name in BESIDE}
    wrong = [*_unknown(given), *_wrong_in(ImagesRequest, own), *_wrong_beside(own, beside)]
    if wrong:
        raise InvalidRequest(*wrong)
    return Asked(read_fields(ImagesRequest, own, PLACE), beside)


def images_request_schema() -> dict[str, Any]:
    """The JSON schema of a body: OpenAI's fields, then those of POST /generate."""
    schema, others = ImagesRequest.model_json_schema(), GenerateRequest.model_json_schema()
    schema["properties"] |= {name: others["properties"][field] for name, field in BESIDE.items()}
    return schema


def _unknown(content: Mapping[str, object]) -> Iterator[FieldError]:
    allowed = f"{', '.join(OWN)}, or one of POST /generate"
    unknown = (name for name in content if name not in OWN and name not in BESIDE)
    for name in islice(unknown, MOST_UNKNOWN):
        yield FieldError(name, f"is not a field of {PLACE}", content[name], allowed)


def _wrong_beside(own: Mapping[str, object], beside: Mapping[str, object]) -> Iterator[FieldError]:
    labelled = any(BESIDE[name] == "class_label" for name in beside)
    if not labelled and "prompt" not in own:
        yield FieldError("prompt", f"is required: {PROMPT}", None, PROMPT)
    yield from _wrong_in(GenerateRequest, {**beside} if labelled else {"class_label": 0, **beside})


def _wrong_in(record: type[BaseModel], content: Mapping[str, object]) -> tuple[FieldError, ...]:
    try:
        read_fields(record, content, PLACE)
    except InvalidRequest as error:
        return error.errors
    return ()
