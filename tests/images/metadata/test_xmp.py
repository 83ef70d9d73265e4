"""XMP: what readers other than ours find in the files."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import exiv2
import numpy as np
import pytest
from PIL import Image

from service.images.encoding import OutputFormat, encode, packet_of
from service.images.metadata.parts import FIRST_PARTS
from service.images.metadata.xmp import without_xmp, xmp_packet
from tests.images.test_encoding import PARAMETERS, pixels
from tests.support.requests import PICTURE, generate, images_of, read_events
from tests.support.services import Running

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
FORMATS: list[OutputFormat] = ["png", "webp", "jpeg"]

each_format = pytest.mark.parametrize("output_format", FORMATS)


def properties(file: bytes) -> dict[str, str]:
    """The XMP properties that Exiv2 reads."""
    image = exiv2.ImageFactory.open(file)
    image.readMetadata()
    return {each.key(): each.toString() for each in image.xmpData()}


@each_format
def test_exiv2_reads_where_a_picture_comes_from(output_format: OutputFormat) -> None:
    assert properties(encode(pixels(), output_format, PARAMETERS)) == {
        "Xmp.iptcExt.DigitalSourceType": GENERATED,
        "Xmp.iptcExt.AISystemUsed": "DiT-XL-2-256",
        "Xmp.xmp.CreatorTool": "dit-service 1.2.3",
    }


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool")
@each_format
def test_exiftool_reads_where_a_picture_comes_from(
    output_format: OutputFormat, tmp_path: Path
) -> None:
    path = tmp_path / f"picture.{output_format}"
    path.write_bytes(encode(pixels(), output_format, PARAMETERS))
    command = ["exiftool", "-json", "-G1", "-n", "-warning", "-a", "-XMP:all", str(path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found == [
        {
            "SourceFile": str(path),
            "XMP-iptcExt:DigitalSourceType": GENERATED,
            "XMP-iptcExt:AISystemUsed": "DiT-XL-2-256",
            "XMP-xmp:CreatorTool": "dit-service 1.2.3",
        }
    ]


@each_format
def test_every_answer_says_that_it_was_generated(
    service: Running, output_format: OutputFormat
) -> None:
    body = PICTURE | {"output_format": output_format}
    files = [generate(service, body).content]
    files += images_of(generate(service, body | {"num_images": 2}))
    for file in files:
        assert properties(file)["Xmp.iptcExt.DigitalSourceType"] == GENERATED


def test_previews_say_so_too(service: Running) -> None:
    answer = generate(service, PICTURE | {"preview_every": 1}, "text/event-stream")
    events = [each for each in read_events(answer.iter_lines()) if each.name == "preview"]
    assert events
    for event in events:
        file = base64.b64decode(str(event.data["b64_json"]))
        assert properties(file)["Xmp.iptcExt.DigitalSourceType"] == GENERATED


@pytest.mark.parametrize(
    "model",
    ['fruit, v2 "final"', "<DiT> & 'friends'", "りんご 🍎", "two\nlines\tand a tab", "a ]]> b", ""],
)
@each_format
def test_any_name_of_a_model_is_read_back(output_format: OutputFormat, model: str) -> None:
    file = encode(pixels(), output_format, replace(PARAMETERS, model=model))
    assert properties(file)["Xmp.iptcExt.AISystemUsed"] == model


def test_what_xml_cannot_say_is_replaced() -> None:
    file = encode(pixels(), "png", replace(PARAMETERS, model="\x1b[31m\0\uffff"))
    assert properties(file)["Xmp.iptcExt.AISystemUsed"] == "\ufffd[31m\ufffd\ufffd"


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
@pytest.mark.parametrize("model", ["even", "odd"])
def test_a_lossy_file_is_the_same_without_its_packet(
    output_format: OutputFormat, model: str
) -> None:
    parameters = replace(PARAMETERS, model=model)
    bare, packet = without_xmp(encode(pixels(), output_format, parameters))
    assert bare == encode(pixels(), output_format, parameters, xmp=False)
    assert packet == packet_of(parameters)
    assert without_xmp(bare) == (bare, None)


def test_the_packet_takes_about_half_a_kilobyte_and_changes_no_pixel() -> None:
    for output_format in FORMATS:
        file = encode(pixels(), output_format, PARAMETERS)
        bare = encode(pixels(), output_format, PARAMETERS, xmp=False)
        assert 500 < len(file) - len(bare) < 600
        decoded, expected = (np.asarray(Image.open(io.BytesIO(each))) for each in (file, bare))
        assert np.array_equal(decoded, expected)


def test_a_webp_that_does_not_announce_its_packet_has_none() -> None:
    """Readers skip it, so it says nothing."""
    file = bytearray(encode(pixels(), "webp", PARAMETERS))
    file[20] &= ~4
    assert without_xmp(bytes(file)) == (bytes(file), None)


def test_a_packet_is_found_among_the_first_parts_only() -> None:
    packet = b"http://ns.adobe.com/xap/1.0/\0" + xmp_packet("m", "1")
    segment = b"\xff\xe1" + (len(packet) + 2).to_bytes(2, "big") + packet
    empty = b"\xff\xe2\0\2"
    for before in range(FIRST_PARTS + 2):
        file = b"\xff\xd8" + empty * before + segment + b"\xff\xda"
        assert (without_xmp(file)[1] is not None) == (before < FIRST_PARTS)
