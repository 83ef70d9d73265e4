"""Verification: whether a file is what its metadata says, by making it again and comparing.

A PNG is compared by its pixels. A WebP or JPEG is lossy, so it is compared with what the same pixels
become when they are encoded with its own parameters, byte for byte but for the XMP packet. That is
compared by itself, and a C2PA manifest not at all.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
from pydantic import BaseModel, Field

from service.engine.model_info import ModelInfo
from service.images.claim import Claim
from service.images.encoding import packet_of
from service.images.parameters import ImageParameters

ROUNDING_LEVELS = 1
"""How far rounding alone moves a pixel outside reproducible mode, in fp32."""

PROVENANCE = frozenset({"version", "model", "dtype", "reproducible"})
"""Metadata that says where a picture was made, not what it shows."""


class VerifyResponse(BaseModel):
    """The result of making a picture again."""

    verified: bool = Field(
        description="The file is what its metadata says: pixels and texts agree, and it holds nothing"
        " that this service does not write. A C2PA signature is not looked at."
    )
    bytes_equal: bool = Field(
        description="Making it again gives the same file, byte for byte but for a C2PA signature."
    )
    max_pixel_difference: int | None = Field(
        default=None,
        description="The largest difference in any colour channel, of 255; null if the picture was"
        " not made again, or is a WebP or JPEG whose bytes differ.",
    )
    reproducible: bool = Field(
        description="The picture and this service are both in reproducible mode, where every bit"
        " must agree. Otherwise a difference of 1 of 255 is accepted as rounding in a PNG."
    )
    parameters: ImageParameters
    reason: str | None = Field(
        default=None, description="Why the bytes are not equal; null if they are."
    )


@dataclass(frozen=True, slots=True)
class Remade:
    """The picture that a claim's parameters give here.

    ``pixels`` is uint8 (H, W, 3), ``file`` the file that this service writes of it, unsigned, and
    ``as_claimed`` the same with the claim's parameters and without XMP.
    """

    parameters: ImageParameters
    pixels: np.ndarray
    file: bytes
    as_claimed: bytes


def early_mismatch(claim: Claim, model_info: ModelInfo) -> VerifyResponse | None:
    """The verdict if making the picture again would prove nothing, else None."""
    theirs, side = claim.parameters, model_info.image_size
    reason = claim.altered
    if theirs.model_digest != model_info.digest:
        reason = (
            f"made by another model: {theirs.model}, digest {theirs.model_digest};"
            f" this service runs {model_info.name}, digest {model_info.digest}"
        )
    elif claim.size not in (None, (side, side)):
        width, height = claim.size or (0, 0)
        reason = f"it has {width} x {height} pixels, this model makes {side} x {side}"
    if reason is None:
        return None
    return VerifyResponse(
        verified=False,
        bytes_equal=False,
        max_pixel_difference=None,
        reproducible=False,
        parameters=theirs,
        reason=reason,
    )


def compare(claim: Claim, sent: np.ndarray | None, ours: Remade) -> VerifyResponse:
    """Compare a file, whose pixels are ``sent`` if it is a PNG, with what its parameters give here."""
    changed = _changes(claim.parameters, ours.parameters)
    exact = ours.parameters.reproducible and not changed.keys() & {"reproducible", "dtype"}
    difference = _difference(claim, sent, ours)
    alike = difference is not None and difference <= (0 if exact else ROUNDING_LEVELS)
    false = [*_false_line(claim, ours.parameters), *_false_xmp(claim, ours.parameters)]
    equal = claim.file == ours.file
    others = [*changed.values(), *false, *([] if claim.xmp else ["it has no XMP packet"])]
    return VerifyResponse(
        verified=alike and changed.keys() <= PROVENANCE and not false,
        bytes_equal=equal,
        max_pixel_difference=difference,
        reproducible=exact,
        parameters=claim.parameters,
        reason=None if equal else _reason(difference, exact, others),
    )


def _difference(claim: Claim, sent: np.ndarray | None, ours: Remade) -> int | None:
    if sent is not None:
        return int(np.abs(sent.astype(int) - ours.pixels).max())
    return 0 if claim.bare == ours.as_claimed else None


def _false_line(claim: Claim, ours: ImageParameters) -> list[str]:
    """What is wrong with the text for image tools."""
    true = {claim.parameters.as_line(), ours.as_line()}
    if true.issuperset(claim.lines()):
        return []
    return ["its text `parameters` does not say what `dit` says"]


def _false_xmp(claim: Claim, ours: ImageParameters) -> list[str]:
    """What is wrong with the XMP packet; files from before this service wrote one have none."""
    if claim.xmp in (None, packet_of(claim.parameters), packet_of(ours)):
        return []
    return ["its XMP packet is not the one that this service writes"]


def _reason(difference: int | None, exact: bool, changes: list[str]) -> str:
    parts = ["the pixels are the same"]
    if difference is None:
        parts = ["a lossy file is compared byte for byte, and making it again gives other bytes"]
    elif difference:
        parts = [f"the pixels differ by up to {difference} of 255"]
    elif not changes:
        parts.append("only the file's encoding differs")
    if difference != 0 and not exact:
        parts.append(
            "this may be rounding: reproducible mode is off here or was off where the picture"
            " was made, or the dtypes differ"
        )
    return "; ".join(parts + changes)


def _changes(theirs: ImageParameters, ours: ImageParameters) -> dict[str, str]:
    """By field, how a file's metadata differs from what this service would write, in words."""
    expected = asdict(ours)
    return {
        name: f"its {name} is {json.dumps(value)}, here it would be {json.dumps(expected[name])}"
        for name, value in asdict(theirs).items()
        if value != expected[name]
    }
