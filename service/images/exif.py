"""Exif: where a WebP or JPEG from an untrusted source carries its parameters. Nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

USER_COMMENT = b"ASCII\0\0\0"
"""What this service writes in front of the parameters, at the end of the EXIF data."""

EXIF_KINDS = frozenset({b"EXIF", b"\xe1"})
"""A chunk of a WebP, and JPEG's segment APP1."""

FIRST_PARTS = 8
"""How many chunks or segments are looked at; this service writes the EXIF data as one of the first."""


def comment_of(file: bytes) -> bytes | None:
    """The EXIF user comment as this service writes it; None if there is none."""
    for content in _exif(file):
        _, marker, comment = content.partition(USER_COMMENT)
        if marker:
            return comment.rstrip(b"\0")  # EXIF pads it to an even length
    return None


def is_webp(file: bytes) -> bool:
    return file.startswith(b"RIFF") and file[8:12] == b"WEBP"


def is_jpeg(file: bytes) -> bool:
    return file.startswith(b"\xff\xd8\xff")


def _exif(file: bytes) -> Iterator[bytes]:
    parts = _webp_chunks(file) if is_webp(file) else _jpeg_segments(file)
    return (content for kind, content in islice(parts, FIRST_PARTS) if kind in EXIF_KINDS)


def _webp_chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 12
    while place + 8 <= len(file):
        size = int.from_bytes(file[place + 4 : place + 8], "little")
        yield file[place : place + 4], file[place + 8 : place + 8 + size]
        place += 8 + size + size % 2


def _jpeg_segments(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The segments before the first scan."""
    place = 2
    while place + 4 <= len(file) and file[place] == 0xFF and file[place + 1] != 0xDA:
        size = max(2, int.from_bytes(file[place + 2 : place + 4], "big"))
        yield file[place + 1 : place + 2], file[place + 4 : place + 2 + size]
        place += 2 + size
