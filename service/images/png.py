"""Png: the size, texts and pixels of a PNG file from an untrusted source."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
CHUNK_FRAME = 12  # bytes of a chunk around its content: length, kind, checksum


class NotPng(ValueError):
    """The bytes are not a complete PNG; the message says why."""


@dataclass(frozen=True, slots=True)
class Png:
    """A file whose chunks are intact. Its pixels have not been decoded yet.

    ``texts`` are the tEXt chunks, keyword and text; ``bare`` is the file reduced to its pixels, so
    that no other chunk is ever decompressed.
    """

    width: int
    height: int
    texts: tuple[tuple[bytes, bytes], ...]
    bare: bytes

    def texts_called(self, keyword: bytes) -> list[bytes]:
        return [text for name, text in self.texts if name == keyword]

    def pixels(self) -> np.ndarray:
        """Decode to uint8 (H, W, 3). Check ``width`` and ``height`` first.

        Raises:
            NotPng: the pixels are incomplete.
        """
        try:
            with Image.open(io.BytesIO(self.bare), formats=["PNG"]) as image:
                return np.asarray(image.convert("RGB"))
        except Exception as error:  # whatever a broken file makes Pillow raise
            raise NotPng("its pixels cannot be read") from error


def read_png(file: bytes) -> Png:
    """Split a file into its chunks, decompressing nothing.

    Raises:
        NotPng: it is not a PNG, is cut off, or a checksum is wrong.
    """
    chunks = list(_chunks(file))
    kind, header = chunks[0]
    if kind != b"IHDR" or len(header) != 13:
        raise NotPng("it does not begin with a header")
    width, height = struct.unpack(">II", header[:8])
    texts = [content.partition(b"\0") for kind, content in chunks if kind == b"tEXt"]
    bare = b"".join(_chunk(kind, content) for kind, content in chunks if kind in PIXEL_CHUNKS)
    return Png(width, height, tuple((name, text) for name, _, text in texts), SIGNATURE + bare)


def _chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and content of each chunk, up to the end chunk."""
    if not file.startswith(SIGNATURE):
        raise NotPng("it does not begin with the signature of one" if file else "it is empty")
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        head = file[place : place + 8]
        size = int.from_bytes(head[:4], "big")
        if place + CHUNK_FRAME + size > len(file):
            raise NotPng(f"it is cut off after {len(file)} bytes")
        kind, content = head[4:], file[place + 8 : place + 8 + size]
        if _chunk(kind, content)[-4:] != file[place + 8 + size : place + CHUNK_FRAME + size]:
            raise NotPng(f"the checksum of the chunk at byte {place} is wrong")
        yield kind, content
        place += CHUNK_FRAME + size


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
