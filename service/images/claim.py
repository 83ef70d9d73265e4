"""Claim: a file from an untrusted source, and what it says about how it was made.

Reading one costs a few copies of the file, and its pixels no more than a picture of this model: what is
decompressed or parsed is measured first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.errors import FieldError, InvalidRequest
from service.images.encoding import OutputFormat
from service.images.fields import read_fields
from service.images.json_object import read_json_object
from service.images.metadata.exif import comment_of
from service.images.metadata.manifest import LONGEST_MANIFEST, without_manifest
from service.images.metadata.parts import is_jpeg, is_webp
from service.images.metadata.xmp import PNG_KEYWORD, without_xmp
from service.images.parameters import ImageParameters
from service.images.png import NotPng, Png, read_png

OURS = "a PNG, WebP or JPEG that this service made"
KEYWORD, LINE = b"dit", b"parameters"
LEAST_LIMIT = 2**20
LONGEST_TEXT = 65_536
"""Bytes of the parameters in a file."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A file, and what it says about how it was made.

    ``file`` lacks the C2PA manifest, which differs every time that a picture is signed, and ``bare``
    also its XMP packet ``xmp``, if it is a WebP or JPEG. ``png`` is None for these two. ``altered``
    is what this service would not have written, if there is anything.
    """

    file: bytes
    output_format: OutputFormat
    parameters: ImageParameters
    xmp: bytes | None
    bare: bytes
    png: Png | None
    altered: str | None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height; None for a lossy file, whose pixels are never decoded."""
        return None if self.png is None else (self.png.width, self.png.height)

    def pixels(self) -> np.ndarray | None:
        """Decode to uint8 (H, W, 3); None for a lossy file. Check ``size`` and ``altered`` first.

        Raises:
            InvalidRequest: the pixels cannot be read.
        """
        try:
            return None if self.png is None else self.png.pixels()
        except NotPng as error:
            raise _not_png(error) from None

    def lines(self) -> list[str]:
        """The text for image tools, if the file is a PNG and has it."""
        return [] if self.png is None else [str(text) for text in self.png.texts_called(LINE)]


def longest_file(image_size: int) -> int:
    """A bound on a picture's bytes: uncompressed, with a channel to spare, its texts and signature.

    At least 1 MiB, so that a larger model's picture is reported as such rather than refused.
    """
    return max(4 * image_size**2 + LONGEST_TEXT + LONGEST_MANIFEST, LEAST_LIMIT)


def read_claim(file: bytes) -> Claim:
    """Read a file, whatever its bytes. Its pixels stay compressed.

    Raises:
        InvalidRequest: it is not a PNG, WebP or JPEG, or our metadata is missing or wrong.
    """
    file = without_manifest(file)
    if is_webp(file):
        return _lossy(file, "webp")
    if is_jpeg(file):
        return _lossy(file, "jpeg")
    try:
        png = read_png(file)
    except NotPng as error:
        raise _not_png(error) from None
    texts = png.texts_called(KEYWORD)
    if len(texts) != 1:
        count = f"{len(texts)} texts" if texts else "no text"
        raise _not_ours(f"has {count} called `dit`, which should hold its parameters")
    xmp = next((text.content for text in png.texts_called(PNG_KEYWORD)), None)
    return Claim(file, "png", _parameters(texts[0].content), xmp, file, png, png.altered)


def _lossy(file: bytes, output_format: OutputFormat) -> Claim:
    bare, packet = without_xmp(file)
    comment = comment_of(bare)
    if comment is None:
        raise _not_ours("has no EXIF comment that holds its parameters")
    parameters = _parameters(comment)
    same = parameters.as_json().encode() == comment
    altered = None if same else "its parameters are not written as this service writes them"
    return Claim(file, output_format, parameters, packet, bare, None, altered)


def _parameters(text: bytes) -> ImageParameters:
    if len(text) > LONGEST_TEXT:
        allowed = f"at most {LONGEST_TEXT} bytes"
        raise InvalidRequest(FieldError("dit", f"must be {allowed}", None, allowed))
    return read_fields(ImageParameters, read_json_object(text, "dit"), "`dit`")


def _not_png(error: NotPng) -> InvalidRequest:
    return _not_ours(f"is not a PNG ({error})")


def _not_ours(problem: str) -> InvalidRequest:
    return InvalidRequest(FieldError("body", f"{problem}; it must be {OURS}", None, OURS))
