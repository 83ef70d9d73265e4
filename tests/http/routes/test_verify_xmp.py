"""POST /verify: files whose XMP packet was taken away, changed or written anew."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from service.images.metadata.xmp import without_xmp, xmp_packet
from tests.support.requests import PICTURE, generate
from tests.support.services import Running
from tests.support.verify import chunks, png_of, verdict

XMP = b"XML:com.adobe.xmp\0"
CAMERA = b"digitalCapture         "
each_kind = pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
each_lossy_kind = pytest.mark.parametrize("kind", ["webp", "jpeg"])


def made(service: Running, kind: str) -> bytes:
    return generate(service, PICTURE | {"output_format": kind}).content


def without(file: bytes) -> bytes:
    """The file as it was before this service wrote XMP."""
    if file.startswith(b"\x89PNG"):
        return png_of([each for each in chunks(file) if not each[1].startswith(XMP)])
    return without_xmp(file)[0]


def replaced(file: bytes, old: bytes, new: bytes) -> bytes:
    """The file with as many bytes of its metadata replaced."""
    assert (len(old), file.count(old)) == (len(new), 1)
    if file.startswith(b"\x89PNG"):
        return png_of([(kind, content.replace(old, new)) for kind, content in chunks(file)])
    return file.replace(old, new)


@each_kind
def test_a_file_from_before_there_was_xmp_is_verified(exact: Running, kind: str) -> None:
    old = without(made(exact, kind))
    assert b"xpacket" not in old
    result = verdict(exact, old)
    assert (result["verified"], result["bytes_equal"]) == (True, False)
    assert result["max_pixel_difference"] == 0
    assert result["reason"] == "the pixels are the same; it has no XMP packet"


@each_kind
def test_a_packet_that_says_something_else_is_detected(exact: Running, kind: str) -> None:
    """The picture is the same, but the file passes for a photograph."""
    file = replaced(made(exact, kind), b"trainedAlgorithmicMedia", CAMERA)
    result = verdict(exact, file)
    assert (result["verified"], result["bytes_equal"]) == (False, False)
    assert result["max_pixel_difference"] == 0
    assert "its XMP packet is not the one that this service writes" in str(result["reason"])


@each_kind
def test_the_packet_of_another_version_is_true(exact: Running, kind: str) -> None:
    file = replaced(made(exact, kind), b'"version": "0', b'"version": "9')
    result = verdict(exact, replaced(file, b"dit-service 0", b"dit-service 9"))
    assert (result["verified"], result["bytes_equal"]) == (True, False)
    assert 'its version is "9' in str(result["reason"])
    assert "XMP" not in str(result["reason"])


@each_lossy_kind
def test_a_touched_picture_is_detected_whatever_its_packet(exact: Running, kind: str) -> None:
    file = made(exact, kind)
    for each in (file, without(file)):
        place = each.rindex(b"\xff\xda") + 20 if kind == "jpeg" else each.index(b"VP8 ") + 40
        touched = each[:place] + bytes([each[place] ^ 4]) + each[place + 1 :]
        result = verdict(exact, touched)
        assert (result["verified"], result["max_pixel_difference"]) == (False, None)


def test_a_packet_in_latin_text_is_not_one(exact: Running, file: bytes) -> None:
    """Readers look for an iTXt alone."""
    parts = [
        (b"tEXt", XMP + content[len(XMP) + 4 :]) if content.startswith(XMP) else (kind, content)
        for kind, content in chunks(file)
    ]
    assert "XML:com.adobe.xmp" in str(verdict(exact, png_of(parts))["reason"])


@pytest.mark.parametrize("kind", ["webp", "jpeg"])
def test_a_second_packet_is_never_verified(exact: Running, kind: str) -> None:
    packet = xmp_packet("another", "1")
    file = made(exact, kind)
    if kind == "webp":
        chunk = b"XMP " + len(packet).to_bytes(4, "little") + packet + b"\0" * (len(packet) % 2)
        size = int.from_bytes(file[4:8], "little") + len(chunk)
        twice = file[:4] + size.to_bytes(4, "little") + file[8:] + chunk
    else:
        content = b"http://ns.adobe.com/xap/1.0/\0" + packet
        twice = file[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + file[2:]
    assert verdict(exact, twice)["verified"] is False


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool")
@pytest.mark.parametrize(
    ("option", "verified"), [("-XMP:all=", True), ("-XMP-dc:Title=Holiday", False)]
)
@each_kind
def test_what_exiftool_does_to_a_packet_is_seen(
    exact: Running, kind: str, option: str, verified: bool, tmp_path: Path
) -> None:
    path = tmp_path / f"picture.{kind}"
    path.write_bytes(made(exact, kind))
    subprocess.run(["exiftool", "-q", "-overwrite_original", option, path], check=True)
    result = verdict(exact, path.read_bytes())
    assert (result["verified"], result["bytes_equal"]) == (verified, False)
    assert result["max_pixel_difference"] == 0
