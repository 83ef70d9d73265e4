"""Manifest: where a file carries a C2PA manifest, its signed statement of where it comes from.

What the manifest says and whether its signature holds is not looked at here: C2PA readers do that.
The places are those of the C2PA specification, in its appendix on embedding manifests.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable

from service.images.metadata.parts import Part, first_parts, is_jpeg, is_webp, without

LONGEST_MANIFEST = 32_768
"""Bytes; this service's take about 3,000, most of them certificates. It fits one segment of a JPEG."""

PNG_PLACE = 33
"""Behind the header chunk, which has to be the first."""

APP11 = b"\xeb"
JPEG_HEADER = re.compile(rb"JP..\x00\x00\x00\x01", re.DOTALL)
"""Before the manifest in a JPEG's segment: what it is, the box's instance, the segment's number."""

_BOX_UUID = bytes.fromhex("63327061 0011 0010 8000 00AA00389B71")


def without_manifest(file: bytes) -> bytes:
    """A PNG, WebP or JPEG without the manifest that is where this service writes one.

    Only the first is taken away: whatever else is in the file remains for others to judge.
    """
    if is_webp(file):
        return _without_part(file, _in_chunk)
    return _without_part(file, _in_segment) if is_jpeg(file) else _without_chunk(file)


def _without_part(file: bytes, carried: Callable[[Part], bytes]) -> bytes:
    for part in first_parts(file):
        if part.whole and _is_manifest(carried(part)):
            return without(file, part)
    return file


def _in_chunk(part: Part) -> bytes:
    return part.content if part.kind == b"C2PA" else b""


def _in_segment(part: Part) -> bytes:
    header = JPEG_HEADER.match(part.content) if part.kind == APP11 else None
    return part.content[header.end() :] if header else b""


def _without_chunk(file: bytes) -> bytes:
    head = file[PNG_PLACE : PNG_PLACE + 8]
    size, kind = int.from_bytes(head[:4], "big"), head[4:]
    end = PNG_PLACE + 12 + size
    if kind != b"caBX" or size > LONGEST_MANIFEST or end > len(file):
        return file
    content = file[PNG_PLACE + 8 : end - 4]
    whole = file[end - 4 : end] == struct.pack(">I", zlib.crc32(kind + content))
    return file[:PNG_PLACE] + file[end:] if whole and _is_manifest(content) else file


def _is_manifest(content: bytes) -> bool:
    """Whether it is one JUMBF box, described as a C2PA manifest store."""
    return (
        len(content) <= LONGEST_MANIFEST
        and content[:8] == struct.pack(">I4s", len(content), b"jumb")
        and content[12:32] == b"jumd" + _BOX_UUID
    )
