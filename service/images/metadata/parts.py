"""Parts: the chunks of a WebP and the segments of a JPEG from an untrusted source."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

FIRST_PARTS = 8
"""How many chunks or segments are looked at; this service writes all its metadata among the first."""

RIFF_SIZE = slice(4, 8)


@dataclass(frozen=True, slots=True)
class Part:
    """``content`` is what lies between the head and the end, as far as the file has it.

    ``whole`` says whether the file has all of it, with the byte that makes its length even.
    """

    kind: bytes
    content: bytes
    start: int
    end: int
    whole: bool


def is_webp(file: bytes) -> bool:
    return file.startswith(b"RIFF") and file[8:12] == b"WEBP"


def is_jpeg(file: bytes) -> bool:
    return file.startswith(b"\xff\xd8\xff")


def first_parts(file: bytes) -> list[Part]:
    """The first chunks of a WebP, or segments of a JPEG; its kind is the marker's second byte."""
    parts = _webp_chunks(file) if is_webp(file) else _jpeg_segments(file)
    return list(islice(parts, FIRST_PARTS))


def without(file: bytes, part: Part) -> bytes:
    """A WebP or JPEG with a part cut out; a WebP's stated size shrinks by as much."""
    rest = file[: part.start] + file[part.end :]
    if not is_webp(file):
        return rest
    (stated,) = struct.unpack("<I", file[RIFF_SIZE])
    size = (stated - (part.end - part.start)) % 2**32
    return rest[: RIFF_SIZE.start] + struct.pack("<I", size) + rest[RIFF_SIZE.stop :]


def _webp_chunks(file: bytes) -> Iterator[Part]:
    place = 12
    while place + 8 <= len(file):
        size = int.from_bytes(file[place + 4 : place + 8], "little")
        end = place + 8 + size + size % 2
        content = file[place + 8 : place + 8 + size]
        yield Part(file[place : place + 4], content, place, end, end <= len(file))
        place = end


def _jpeg_segments(file: bytes) -> Iterator[Part]:
    """The segments before the first scan."""
    place = 2
    while place + 4 <= len(file) and file[place] == 0xFF and file[place + 1] != 0xDA:
        size = max(2, int.from_bytes(file[place + 2 : place + 4], "big"))
        end = place + 2 + size
        whole = end <= len(file)
        yield Part(file[place + 1 : place + 2], file[place + 4 : end], place, end, whole)
        place = end
