"""POST /verify: WebP and JPEG, which are compared by encoding the picture again."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from service.images.encoding import EXIF_IFD, EXIF_USER_COMMENT
from service.images.metadata.exif import comment_of
from service.images.metadata.parts import FIRST_PARTS
from tests.support.requests import PICTURE, generate
from tests.support.services import Running
from tests.support.verify import refusal, verdict

LOSSY = pytest.mark.parametrize("kind", ["webp", "jpeg"])


def lossy(service: Running, kind: str, **changes: object) -> bytes:
    return generate(service, PICTURE | {"output_format": kind} | changes).content


def in_comment(file: bytes, old: str, new: str) -> bytes:
    """The file with a part of its parameters replaced by as many characters."""
    assert len(old) == len(new)
    changed = file.replace(old.encode(), new.encode())
    assert changed != file
    return changed


@LOSSY
def test_an_untouched_file_is_verified(exact: Running, service: Running, kind: str) -> None:
    for where, reproducible in ((exact, True), (service, False)):
        for seed in (1, 22, 333, 4444):  # so that the parameters are of even and odd length
            file = lossy(where, kind, seed=seed)
            comment = comment_of(file)
            assert comment is not None
            assert verdict(where, file) == {
                "verified": True,
                "bytes_equal": True,
                "max_pixel_difference": 0,
                "reproducible": reproducible,
                "parameters": json.loads(comment),
                "reason": None,
            }


@LOSSY
@pytest.mark.parametrize(
    ("old", "new"), [('"seed": 1,', '"seed": 2,'), ('"cfg_scale": 4.0', '"cfg_scale": 3.5')]
)
def test_the_parameters_of_another_picture_are_detected(
    exact: Running, kind: str, old: str, new: str
) -> None:
    result = verdict(exact, in_comment(lossy(exact, kind, cfg_scale=4.0), old, new))
    assert (result["verified"], result["bytes_equal"]) == (False, False)
    assert result["max_pixel_difference"] is None
    assert "compared byte for byte" in str(result["reason"])


@LOSSY
def test_false_metadata_is_detected_and_provenance_is_not(exact: Running, kind: str) -> None:
    file = lossy(exact, kind)
    false = verdict(exact, in_comment(file, '"pear"', '"plum"'))
    assert (false["verified"], false["max_pixel_difference"]) == (False, 0)
    elsewhere = verdict(exact, in_comment(file, '"version": "0', '"version": "9'))
    assert (elsewhere["verified"], elsewhere["bytes_equal"]) == (True, False)


@LOSSY
def test_other_pixels_are_detected(exact: Running, kind: str) -> None:
    file = lossy(exact, kind)
    picture = Image.open(io.BytesIO(file))
    pixels = np.asarray(picture.convert("RGB")).copy()
    pixels[3, 4] ^= 128
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind.upper(), quality=95, exif=picture.getexif())
    assert comment_of(buffer.getvalue()) == comment_of(file)
    assert verdict(exact, buffer.getvalue())["verified"] is False


@LOSSY
def test_another_encoding_is_not_verified(exact: Running, kind: str) -> None:
    """A lossless WebP of the decoded pixels, a better quality, and bytes after the end."""
    file = lossy(exact, kind)
    picture = Image.open(io.BytesIO(file))
    for options in ({"lossless": True}, {"quality": 99}):
        buffer = io.BytesIO()
        picture.save(buffer, kind.upper(), exif=picture.getexif(), **options)
        assert verdict(exact, buffer.getvalue())["verified"] is False
    assert verdict(exact, file + b"more")["verified"] is False


@LOSSY
def test_a_file_of_another_model_is_reported_as_such(exact: Running, kind: str) -> None:
    digest = exact.engine.model_info.digest
    result = verdict(exact, in_comment(lossy(exact, kind), digest, "0" * 64))
    assert str(result["reason"]).startswith("made by another model")


@LOSSY
def test_a_file_without_parameters_is_refused(exact: Running, kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind.upper())
    for file in (buffer.getvalue(), buffer.getvalue()[:14], lossy(exact, kind)[:40]):
        assert "no EXIF comment that holds its parameters" in refusal(exact, file)[1]


@LOSSY
def test_parameters_in_another_spelling_are_not_verified(exact: Running, kind: str) -> None:
    exif = Image.open(io.BytesIO(lossy(exact, kind))).getexif()
    spelled = exif.get_ifd(EXIF_IFD)
    spelled[EXIF_USER_COMMENT] = spelled[EXIF_USER_COMMENT].replace(b": ", b":")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind.upper(), exif=exif)
    result = verdict(exact, buffer.getvalue())
    assert result["verified"] is False
    assert "not written as this service writes them" in str(result["reason"])


def test_pixels_are_never_decoded_to_find_the_comment() -> None:
    vast = b"RIFF\xff\xff\xff\xffWEBPVP8X\n\0\0\0\x0a\0\0\0" + b"\xff" * 6
    assert comment_of(vast) is None
    empty = b"ANMF\0\0\0\0" * FIRST_PARTS
    assert comment_of(b"RIFF\0\0\0\0WEBP" + empty + b"EXIF\x0a\0\0\0ASCII\0\0\0{}") is None
    assert comment_of(b"\xff\xd8" + b"\xff\xe1\0\0" * 100_000) is None
