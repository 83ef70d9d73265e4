"""Verification: whether a PNG is what its metadata says: read, made again, compared."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

import numpy as np
from pydantic import ValidationError

from service.engine.model_info import ModelInfo
from service.errors import FieldError, InvalidRequest
from service.http.schemas import GenerateRequest, PictureMetadata, VerifyResponse
from service.images.encoding import ImageParameters
from service.images.png import NoPng, Png, read_png
from service.images.request import allowed_values, read_json_object

KEYWORD = b"dit"
OURS = "a PNG that this service made"
LAST_BIT = 1
"""The most by which rounding alone moves a pixel where reproducible mode is off, in fp32."""

ELSEWHERE = frozenset({"version", "model", "dtype", "reproducible"})
"""Metadata that says where a picture was made, not what it shows."""

RANGED = frozenset({"cfg_scale", "num_sampling_steps", "sampler", "seed", "guidance_interval"})
MUST = re.compile("^(Value error, )?(Input|String) should")
LEAST_LIMIT = 2**20
ROOM_FOR_TEXTS = 65_536


@dataclass(frozen=True, slots=True)
class Claim:
    """A file and what it says of how it was made."""

    file: bytes
    png: Png
    metadata: PictureMetadata

    def request(self) -> GenerateRequest:
        """What would have to be asked for to get this picture."""
        wanted = self.metadata
        return GenerateRequest(
            class_label=wanted.class_label,
            cfg_scale=wanted.cfg_scale,
            num_sampling_steps=wanted.num_sampling_steps,
            sampler=wanted.sampler,
            seed=wanted.seed,
            guidance_interval=wanted.guidance_interval,
        )


def longest_file(image_size: int) -> int:
    """A bound for the bytes of a picture: uncompressed, with a channel to spare, and its texts.

    At least a megabyte, so that a larger model's pictures are told whose they are.
    """
    return max(4 * image_size**2 + ROOM_FOR_TEXTS, LEAST_LIMIT)


def read_claim(file: bytes) -> Claim:
    """Read a file, whatever its bytes; its pixels stay packed.

    Raises:
        InvalidRequest: it is no PNG, has no metadata of ours, or a field of that is wrong.
    """
    try:
        png = read_png(file)
    except NoPng as error:
        raise _not_ours(f"is no PNG ({error})") from None
    texts = png.texts_called(KEYWORD)
    if len(texts) != 1:
        count = f"{len(texts)} texts" if texts else "no text"
        raise _not_ours(f"has {count} called `dit`, where its parameters would stand")
    return Claim(file, png, _metadata(read_json_object(texts[0], "dit")))


def early_mismatch(claim: Claim, served: ModelInfo) -> VerifyResponse | None:
    """The verdict where making the picture again would tell nothing, else None."""
    theirs, png = claim.metadata, claim.png
    if theirs.model_digest != served.digest:
        reason = (
            f"made by another model: {theirs.model}, digest {theirs.model_digest};"
            f" this service runs {served.name}, digest {served.digest}"
        )
    elif (png.width, png.height) != (served.image_size, served.image_size):
        size = served.image_size
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


def verdict(claim: Claim, ours: ImageParameters, pixels: np.ndarray, file: bytes) -> VerifyResponse:
    """Compare a file with what came of its parameters here: ``pixels``, written as ``file``.

    Raises:
        InvalidRequest: its pixels cannot be read.
    """
    try:
        sent = claim.png.pixels()
    except NoPng as error:
        raise _not_ours(f"is no PNG ({error})") from None
    difference = int(np.abs(sent.astype(int) - pixels).max())
    changed = _changed(claim.metadata, ours)
    exact = ours.reproducible and not changed.keys() & {"reproducible", "dtype"}
    alike = difference <= (0 if exact else LAST_BIT)
    equal = claim.file == file
    return VerifyResponse(
        verified=alike and changed.keys() <= ELSEWHERE,
        bytes_equal=equal,
        max_pixel_difference=difference,
        reproducible=exact,
        parameters=claim.metadata,
        reason=None if equal else _reason(difference, exact, list(changed.values())),
    )


def _reason(difference: int, exact: bool, changed: list[str]) -> str:
    said = ["the pixels are the same"]
    if difference:
        said = [f"the pixels differ by up to {difference} of 255"]
        if not exact:
            said.append(
                "that may be rounding: reproducible mode is off here, or was where the picture was"
                " made, or the dtypes differ"
            )
    elif not changed:
        said.append("only the file is written otherwise")
    return "; ".join(said + changed)


def _changed(theirs: PictureMetadata, ours: ImageParameters) -> dict[str, str]:
    """The fields in which a file's metadata is not what this service would write, in words."""
    expected = asdict(ours)
    return {
        name: f"its {name} is {json.dumps(value)}, here it would be {json.dumps(expected[name])}"
        for name, value in theirs.model_dump().items()
        if value != expected[name]
    }


def _metadata(content: dict[str, object]) -> PictureMetadata:
    try:
        return PictureMetadata.model_validate(content)
    except ValidationError as error:
        wrong = {
            str(each["loc"][0]): _explain(str(each["loc"][0]), each["msg"], each["type"], content)
            for each in error.errors(include_url=False, include_context=False)
        }
    raise InvalidRequest(*wrong.values())


def _explain(name: str, message: str, kind: str, content: dict[str, object]) -> FieldError:
    if kind == "extra_forbidden":
        known = ", ".join(PictureMetadata.model_fields)
        return FieldError(name, "is no field of `dit`", content[name], known)
    allowed = allowed_values(name) if name in RANGED else None
    if name not in content:
        return FieldError(name, "is missing in `dit`", None, allowed)
    if allowed is None:
        return FieldError(name, MUST.sub("must", message), content[name])
    return FieldError(name, f"must be {allowed}", content[name], allowed)


def _not_ours(what: str) -> InvalidRequest:
    return InvalidRequest(FieldError("body", f"{what}; it must be {OURS}", None, OURS))
