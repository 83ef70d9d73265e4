"""Negotiation: from a request's Accept header to the form of its answer."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import NotAcceptable
from service.http.content_type import JSON
from service.http.media_ranges import best_offer
from service.images.encoding import CONTENT_TYPES, OutputFormat

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
    """Choose the form of the answer: the one that the client prefers.

    Raises:
        NotAcceptable: Accept names no form that this request can be answered in.
    """
    offers = [*(_content_types(output_format) if num_images == 1 else []), JSON, ZIP, EVENTS]
    best = best_offer(accept or "", offers)
    if best is None:
        asked = "one image" if num_images == 1 else f"{num_images} images"
        raise NotAcceptable(
            f"Accept is {(accept or '')[:LONGEST_ACCEPT]!r}; {asked} can be sent as"
            f" {', '.join(offers[:-1])} or {offers[-1]}"
        )
    if best in FORMATS:
        return AnswerForm("image", FORMATS[best])
    return AnswerForm(best, output_format or "png")


def _content_types(output_format: OutputFormat | None) -> list[str]:
    return [CONTENT_TYPES[output_format]] if output_format else list(FORMATS)
