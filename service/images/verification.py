"""Verification: whether a PNG is what its metadata says, by making it again and comparing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
from pydantic import BaseModel, Field

from service.engine.model_info import ModelInfo
from service.errors import FieldError, InvalidRequest
from service.images.fields import read_fields
from service.images.json_object import read_json_object
from service.images.parameters import ImageParameters
from service.images.png import NotPng, Png, read_png

KEYWORD = b"dit"
OURS = "a PNG that this service made"
ROUNDING_LEVELS = 1
"""How far rounding alone moves a pixel outside reproducible mode, in fp32."""

PROVENANCE = frozenset({"version", "model", "dtype", "reproducible"})
"""Metadata that says where a picture was made, not what it shows."""

LEAST_LIMIT = 2**20
ROOM_FOR_TEXTS = 65_536


class VerifyResponse(BaseModel):
    """The result of making a picture again."""

    verified: bool = Field(
        description="The picture is what its metadata says: pixels and parameters agree."
    )
    bytes_equal: bool = Field(description="Making it again gives the same file, byte for byte.")
    max_pixel_difference: int | None = Field(
        default=None,
        description="The largest difference in any colour channel, of 255; null if the picture was"
        " not made again.",
    )
    reproducible: bool = Field(
        description="The picture and this service are both in reproducible mode, where every bit"
        " must agree. Otherwise a difference of 1 of 255 is accepted as rounding."
    )
    parameters: ImageParameters
    reason: str | None = Field(
        default=None, description="Why the bytes are not equal; null if they are."
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """A file, and what it says about how it was made."""

    file: bytes
    png: Png
    parameters: ImageParameters


def longest_file(image_size: int) -> int:
    """A bound on a picture's bytes: uncompressed, with a channel to spare, and its texts.

    At least 1 MiB, so that a larger model's picture is reported as such rather than refused.
    """
    return max(4 * image_size**2 + ROOM_FOR_TEXTS, LEAST_LIMIT)


def read_claim(file: bytes) -> Claim:
    """Read a file, whatever its bytes. Its pixels stay compressed.

    Raises:
        InvalidRequest: it is not a PNG, or our metadata is missing or wrong.
    """
    try:
        png = read_png(file)
    except NotPng as error:
        raise _not_ours(f"is not a PNG ({error})") from None
    texts = png.texts_called(KEYWORD)
    if len(texts) != 1:
        count = f"{len(texts)} texts" if texts else "no text"
        raise _not_ours(f"has {count} called `dit`, which should hold its parameters")
    content = read_json_object(texts[0], "dit")
    return Claim(file, png, read_fields(ImageParameters, content, "`dit`"))


def early_mismatch(claim: Claim, model_info: ModelInfo) -> VerifyResponse | None:
    """The verdict if making the picture again would prove nothing, else None."""
    theirs, png = claim.parameters, claim.png
    size = model_info.image_size
    if theirs.model_digest != model_info.digest:
        reason = (
            f"made by another model: {theirs.model}, digest {theirs.model_digest};"
            f" this service runs {model_info.name}, digest {model_info.digest}"
        )
    elif (png.width, png.height) != (size, size):
        reason = f"it has {png.width} x {png.height} pixels, this model makes {size} x {size}"
    else:
        return None
    return VerifyResponse(
        verified=False,
        bytes_equal=False,
        max_pixel_difference=None,
        reproducible=False,
        parameters=theirs,
        reason=reason,
    )


def compare(claim: Claim, ours: ImageParameters, pixels: np.ndarray, file: bytes) -> VerifyResponse:
    """Compare a file with what its parameters give here: ``pixels``, written as ``file``.

    Raises:
        InvalidRequest: its pixels cannot be read.
    """
    try:
        sent = claim.png.pixels()
    except NotPng as error:
        raise _not_ours(f"is not a PNG ({error})") from None
    difference = int(np.abs(sent.astype(int) - pixels).max())
    changed = _changes(claim.parameters, ours)
    exact = ours.reproducible and not changed.keys() & {"reproducible", "dtype"}
    alike = difference <= (0 if exact else ROUNDING_LEVELS)
    equal = claim.file == file
    return VerifyResponse(
        verified=alike and changed.keys() <= PROVENANCE,
        bytes_equal=equal,
        max_pixel_difference=difference,
        reproducible=exact,
        parameters=claim.parameters,
        reason=None if equal else _reason(difference, exact, list(changed.values())),
    )


def _reason(difference: int, exact: bool, changes: list[str]) -> str:
    parts = ["the pixels are the same"]
    if difference:
        parts = [f"the pixels differ by up to {difference} of 255"]
        if not exact:
            parts.append(
                "this may be rounding: reproducible mode is off here or was off where the picture"
                " was made, or the dtypes differ"
            )
    elif not changes:
        parts.append("only the file's encoding differs")
    return "; ".join(parts + changes)


def _changes(theirs: ImageParameters, ours: ImageParameters) -> dict[str, str]:
    """By field, how a file's metadata differs from what this service would write, in words."""
    expected = asdict(ours)
    return {
        name: f"its {name} is {json.dumps(value)}, here it would be {json.dumps(expected[name])}"
        for name, value in asdict(theirs).items()
        if value != expected[name]
    }


def _not_ours(problem: str) -> InvalidRequest:
    return InvalidRequest(FieldError("body", f"{problem}; it must be {OURS}", None, OURS))
