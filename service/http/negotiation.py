"""Negotiation: from a request's Accept header to the form of its answer."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import NotAcceptable
from service.images.encoding import CONTENT_TYPES, OutputFormat

JSON = "application/json"
ZIP = "application/zip"
EVENTS = "text/event-stream"
LONGEST_ACCEPT = 200  # in a message
FORMATS = {content_type: name for name, content_type in CONTENT_TYPES.items()}


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """``kind`` is "image", JSON, ZIP or EVENTS; ``output_format`` is the pictures' format."""

    kind: str
    output_format: OutputFormat


def negotiate(
    accept: str | None, output_format: OutputFormat | None, num_images: int
) -> AnswerForm:
    """Choose the form of the answer: the client's first preference that can be met.

    Raises:
        NotAcceptable: Accept names no form that this request can be answered in.
    """
    for media_range in _by_preference(accept or "*/*"):
        form = _form(media_range, output_format, num_images)
        if form is not None:
            return form
    pictures = _content_types(output_format) if num_images == 1 else []
    asked = "one image" if num_images == 1 else f"{num_images} images"
    raise NotAcceptable(
        f"Accept is {(accept or '')[:LONGEST_ACCEPT]!r}; {asked} can be sent as"
        f" {', '.join([*pictures, JSON, ZIP])} or {EVENTS}"
    )


def _form(
    media_range: str, output_format: OutputFormat | None, num_images: int
) -> AnswerForm | None:
    pictures = output_format or "png"
    if media_range in (JSON, ZIP, EVENTS):
        return AnswerForm(media_range, pictures)
    if media_range in ("*/*", "application/*"):
        one_picture = num_images == 1 and media_range == "*/*"
        return AnswerForm("image" if one_picture else JSON, pictures)
    if num_images > 1:
        return None
    if media_range == "image/*":
        return AnswerForm("image", pictures)
    if media_range in _content_types(output_format):
        return AnswerForm("image", FORMATS[media_range])
    return None


def _content_types(output_format: OutputFormat | None) -> list[str]:
    return [CONTENT_TYPES[output_format]] if output_format else list(FORMATS)


def _by_preference(accept: str) -> list[str]:
    """Media ranges, best first: by quality, then by specificity, then in the order given."""
    ranked = []
    for place, part in enumerate(accept.split(",")):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = _quality(parameters)
        if media_range and quality > 0:
            ranked.append((-quality, media_range.count("*"), place, media_range))
    return [media_range for *_, media_range in sorted(ranked)]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
