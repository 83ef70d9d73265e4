"""Png: a PNG file that anybody may have sent: its size, its texts and its pixels."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
OF_PIXELS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
CHUNK_FRAME = 12  # bytes of a chunk beside its content: length, kind, checksum


class NoPng(ValueError):
    """The bytes are no whole PNG; the message says where they leave off being one."""


@dataclass(frozen=True, slots=True)
class Png:
    """A file whose chunks are whole. Its pixels have not been looked at yet.

    ``texts`` are the tEXt chunks, keyword and text; ``bare`` is the file without anything but
    pixels, so that no other chunk is ever unpacked.
    """

    width: int
    height: int
    texts: tuple[tuple[bytes, bytes], ...]
    bare: bytes

    def texts_called(self, keyword: bytes) -> list[bytes]:
        return [text for name, text in self.texts if name == keyword]

    def pixels(self) -> np.ndarray:
        """Decode to uint8 (H, W, 3); look at ``width`` and ``height`` before.

        Raises:
            NoPng: the pixels are not all there.
        """
        try:
            with Image.open(io.BytesIO(self.bare), formats=["PNG"]) as image:
                return np.asarray(image.convert("RGB"))
        except Exception as error:  # whatever a broken file makes Pillow raise
            raise NoPng("its pixels cannot be read") from error


def read_png(file: bytes) -> Png:
    """Take a file apart, unpacking nothing.

    Raises:
        NoPng: it is none, or is cut off, or a checksum is wrong.
    """
    chunks = list(_chunks(file))
    kind, header = chunks[0]
    if kind != b"IHDR" or len(header) != 13:
        raise NoPng("it does not begin with a header")
    width, height = struct.unpack(">II", header[:8])
    texts = [content.partition(b"\0") for kind, content in chunks if kind == b"tEXt"]
    bare = b"".join(_chunk(kind, content) for kind, content in chunks if kind in OF_PIXELS)
    return Png(width, height, tuple((name, text) for name, _, text in texts), SIGNATURE + bare)


def _chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each, up to the end chunk."""
    if not file.startswith(SIGNATURE):
        raise NoPng("it does not begin as one" if file else "it is empty")
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        head = file[place : place + 8]
        size = int.from_bytes(head[:4], "big")
        if place + CHUNK_FRAME + size > len(file):
            raise NoPng(f"it is cut off after {len(file)} bytes")
        kind, content = head[4:], file[place + 8 : place + 8 + size]
        if _chunk(kind, content)[-4:] != file[place + 8 + size : place + CHUNK_FRAME + size]:
            raise NoPng(f"the checksum of the chunk at byte {place} is wrong")
        yield kind, content
        place += CHUNK_FRAME + size


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
