"""POST /verify: files that cost much, or show something else than they seem to."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.errors import InvalidRequest
from service.images.claim import LONGEST_TEXT, read_claim
from service.images.png import FEW_CHUNKS
from tests.support.services import Running
from tests.support.verify import (
    chunks,
    metadata,
    pixels_of,
    png_of,
    redrawn,
    refusal,
    repainted,
    verdict,
    with_text,
)

Chunk = tuple[bytes, bytes]


def packed_zeros(mebibytes: int) -> bytes:
    deflater = zlib.compressobj(9)
    return b"".join(deflater.compress(bytes(2**20)) for _ in range(mebibytes)) + deflater.flush()


def header(width: int, height: int, form: bytes = bytes([8, 2, 0, 0, 0])) -> Chunk:
    return b"IHDR", struct.pack(">II", width, height) + form


def with_chunk(file: bytes, place: int, *new: Chunk) -> bytes:
    parts = chunks(file)
    return png_of([*parts[:place], *new, *parts[place:]])


def test_a_second_header_is_refused(exact: Running, file: bytes) -> None:
    """Pillow obeys the last one."""
    for place in (1, 3, 4):
        bomb = with_chunk(file, place, header(6000, 6000))
        assert "it has more than one header" in refusal(exact, bomb)[1]


def test_more_pixels_than_the_header_says_are_refused(exact: Running, file: bytes) -> None:
    (kind, data) = next(each for each in chunks(file) if each[0] == b"IDAT")
    longer = zlib.compress(zlib.decompress(data) + b"\0")
    for content in (longer, packed_zeros(64), data + b"more"):
        bomb = png_of([(kind, content) if each == kind else (each, c) for each, c in chunks(file)])
        assert "it has more pixels than its header says" in refusal(exact, bomb)[1]


def test_the_size_is_compared_before_anything_is_decoded(exact: Running, file: bytes) -> None:
    vast = png_of([header(2**31 - 1, 2**31 - 1), *chunks(file)[1:]])
    assert "2147483647 x 2147483647 pixels" in str(verdict(exact, vast)["reason"])


def test_a_file_costs_a_few_copies_of_itself_and_one_picture(file: bytes) -> None:
    zeros = packed_zeros(64)
    bombs = [
        with_chunk(file, 1, header(6000, 6000)),
        with_chunk(file, 1, (b"zTXt", b"note\0\0" + zeros)),
        with_chunk(file, 1, (b"iTXt", b"dit\0\1\0\0\0" + zeros)),
        with_chunk(file, 1, (b"iCCP", b"x\0\0" + zeros)),
        png_of([(kind, zeros if kind == b"IDAT" else each) for kind, each in chunks(file)]),
        with_text(file, b'{"a":' + b"[" * 500_000),
        with_text(file, json.dumps({f"k{i}": 0 for i in range(60_000)}).encode()),
        with_text(file, b'{"seed": ' + b"9" * 1_000_000 + b"}"),
        with_chunk(file, 3, *[(b"IDAT", b"")] * 50_000),
    ]
    for bomb in bombs:
        tracemalloc.start()
        with suppress(InvalidRequest):
            claim = read_claim(bomb)
            if not claim.altered:
                claim.pixels()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 5 * len(bomb) + 100_000


def test_long_metadata_is_refused_unread(exact: Running, file: bytes) -> None:
    longest = json.dumps(metadata(file)).encode().ljust(LONGEST_TEXT)
    assert verdict(exact, with_text(file, longest))["verified"] is True
    field, message = refusal(exact, with_text(file, longest + b" "))
    assert (field, message) == ("dit", f"must be at most {LONGEST_TEXT} bytes")


def test_many_small_chunks_are_refused(exact: Running, file: bytes) -> None:
    most = FEW_CHUNKS - len(chunks(file))
    assert verdict(exact, with_chunk(file, 4, *[(b"IDAT", b"")] * most))["verified"] is True
    over = with_chunk(file, 4, *[(b"IDAT", b"")] * (most + 1))
    assert "too many chunks" in refusal(exact, over)[1]


def animated(file: bytes) -> bytes:
    """The file as the first frame, and its negative as the second."""
    frames = [Image.fromarray(pixels_of(file)), Image.fromarray(255 - pixels_of(file))]
    texts = PngInfo()
    for kind, content in chunks(file):
        if kind == b"tEXt":
            texts.add(kind, content)
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], pnginfo=texts)
    return buffer.getvalue()


FOREIGN = [
    (b"tRNS", bytes(6)),
    (b"gAMA", struct.pack(">I", 10_000)),
    (b"cHRM", bytes(32)),
    (b"sRGB", b"\0"),
    (b"cICP", b"\1\1\0\1"),
    (b"iCCP", b"x\0\0" + zlib.compress(b"profile")),
    (b"PLTE", bytes(3)),
    (b"bKGD", bytes(6)),
    (b"pHYs", struct.pack(">IIB", 1, 9, 0)),
    (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\3\0\0\0\0\0\0"),
    (b"zTXt", b"note\0\0" + zlib.compress(b"hello")),
    (b"caBX", b"a manifest"),
    (b"exEc", b"#!/bin/sh"),
]


@pytest.mark.parametrize(("kind", "content"), FOREIGN, ids=[kind.decode() for kind, _ in FOREIGN])
def test_a_chunk_that_this_service_does_not_write_is_never_verified(
    exact: Running, file: bytes, kind: bytes, content: bytes
) -> None:
    for place in (1, len(chunks(file)) - 1):
        result = verdict(exact, with_chunk(file, place, (kind, content)))
        assert (result["verified"], result["bytes_equal"]) == (False, False)
        assert f"it has a chunk {kind.decode()}, which" in str(result["reason"])


def test_a_second_frame_is_never_verified(exact: Running, file: bytes) -> None:
    animation = animated(file)
    assert np.array_equal(pixels_of(animation), pixels_of(file))
    result = verdict(exact, animation)
    assert (result["verified"], result["max_pixel_difference"]) == (False, None)
    assert "it has a chunk acTL" in str(result["reason"])


def test_pixels_in_another_form_are_never_verified(exact: Running, file: bytes) -> None:
    """Some of these look the same, others are transparent, or lose what the comparison sees."""
    pixels = pixels_of(file)
    for alpha in (0, 255):
        veiled = np.dstack([pixels, np.full((8, 8), alpha, dtype=np.uint8)])
        assert verdict(exact, repainted(file, veiled))["verified"] is False
    colours, indices = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    indexed = Image.fromarray(indices.reshape(8, 8).astype(np.uint8), "P")
    indexed.putpalette(colours.tobytes())
    assert verdict(exact, redrawn(file, indexed))["verified"] is False
    for form in ([16, 2, 0, 0, 0], [8, 2, 0, 0, 1], [8, 2, 1, 0, 0], [8, 0, 0, 0, 0]):
        other = png_of([header(8, 8, bytes(form)), *chunks(file)[1:]])
        result = verdict(exact, other)
        assert result["verified"] is False
        assert "8-bit RGB without interlacing" in str(result["reason"])


@pytest.mark.parametrize(
    "appended", [b"\0", b"and more", b"PK\x05\x06" + bytes(18), b"<script>alert(1)</script>"]
)
def test_bytes_after_the_end_are_never_verified(
    exact: Running, file: bytes, appended: bytes
) -> None:
    result = verdict(exact, file + appended)
    assert (result["verified"], result["bytes_equal"]) == (False, False)
    assert result["reason"] == f"it has {len(appended)} bytes after its end"
    assert verdict(exact, file + file)["verified"] is False


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ((b"tEXt", b"parameters\0melon"), "more than one text 'parameters'"),
        ((b"iTXt", b"parameters\0\0\0\0\0melon"), "more than one text 'parameters'"),
        ((b"tEXt", b"Comment\0made by hand"), "it has a text 'Comment'"),
        ((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"), "than one text 'XML:com.adobe.xmp'"),
        ((b"tEXt", b"\x1b[31m\0"), r"it has a text '\x1b[31m'"),
        ((b"iTXt", b"parameters\0\0\0en\0\0melon"), "it has a text"),
    ],
)
def test_a_text_that_this_service_does_not_write_is_never_verified(
    exact: Running, file: bytes, new: Chunk, reason: str
) -> None:
    result = verdict(exact, with_chunk(file, 1, new))
    assert result["verified"] is False
    assert reason in str(result["reason"])


@pytest.mark.parametrize("kind", [b"tEXt", b"iTXt"])
def test_a_second_dit_is_refused(exact: Running, file: bytes, kind: bytes) -> None:
    text = b"dit\0" + bytes(4) * (kind == b"iTXt") + json.dumps(metadata(file)).encode()
    for place in (1, len(chunks(file)) - 1):
        assert "2 texts called `dit`" in refusal(exact, with_chunk(file, place, (kind, text)))[1]


def test_chunks_in_a_disorder_that_viewers_read_differently(exact: Running, file: bytes) -> None:
    parts = chunks(file)
    data = next(content for kind, content in parts if kind == b"IDAT")
    texts = [part for part in parts if part[0] == b"tEXt"]
    split = [parts[0], (b"IDAT", data[:9]), *texts, (b"IDAT", data[9:]), parts[-1]]
    result = verdict(exact, png_of(split))
    assert (result["verified"], result["bytes_equal"]) == (False, False)
    assert "between those of its pixels" in str(result["reason"])
    assert "no valid name" in refusal(exact, with_chunk(file, 1, (b"a\x1b[m", b"")))[1]
