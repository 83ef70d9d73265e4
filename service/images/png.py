"""Png: a PNG file from an untrusted source, held against the form in which this service writes one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.images.metadata.xmp import PNG_KEYWORD

SIGNATURE = b"\x89PNG\r\n\x1a\n"
WRITTEN_CHUNKS = frozenset({b"IHDR", b"tEXt", b"iTXt", b"IDAT", b"IEND"})
"""The chunks that this service writes. Any other may change what a viewer shows: further frames,
colours, transparency, another orientation."""

WRITTEN_TEXTS = frozenset({b"dit", b"parameters", PNG_KEYWORD})
WRITTEN_FORM = bytes([8, 2, 0, 0, 0])
"""The header after width and height: 8 bits, RGB, the only compression and filters, not interlaced."""

CHUNK_FRAME = 12  # bytes of a chunk around its content: length, kind, checksum
SHORTEST_CHUNK = 4096
"""Bytes of a chunk on average, at least, beyond the first few: encoders write 8 KiB or more."""

FEW_CHUNKS = 16


class NotPng(ValueError):
    """The bytes are not a complete PNG; the message says why."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text chunk. ``keyword`` and ``content`` are as they are in the file."""

    keyword: bytes
    content: bytes
    encoding: str

    def __str__(self) -> str:
        return self.content.decode(self.encoding, "replace")


@dataclass(frozen=True, slots=True)
class Png:
    """A file whose chunks are intact. Nothing in it has been decompressed yet.

    ``altered`` says what this service would not have written; only if that is None can the pixels
    be decoded.
    """

    width: int
    height: int
    texts: tuple[Text, ...]
    data: bytes
    altered: str | None

    def texts_called(self, keyword: bytes) -> list[Text]:
        return [text for text in self.texts if text.keyword == keyword]

    def pixels(self) -> np.ndarray:
        """Decode to uint8 (H, W, 3), at the cost of one such picture. Check the size first.

        Raises:
            NotPng: the pixels are incomplete, or there are more than the header says.
        """
        rows = self.height * (1 + 3 * self.width)
        inflater = zlib.decompressobj()
        try:
            length = len(inflater.decompress(self.data, rows + 1))
        except zlib.error as error:
            raise NotPng("its pixels cannot be read") from error
        if length > rows or inflater.unused_data:
            raise NotPng("it has more pixels than its header says")
        if length < rows or not inflater.eof:
            raise NotPng("its pixels cannot be read")
        return self._decoded()

    def _decoded(self) -> np.ndarray:
        header = struct.pack(">II", self.width, self.height) + WRITTEN_FORM
        parts = [(b"IHDR", header), (b"IDAT", self.data), (b"IEND", b"")]
        bare = SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts)
        try:
            with Image.open(io.BytesIO(bare), formats=["PNG"]) as image:
                return np.asarray(image)
        except Exception as error:  # whatever a broken file makes Pillow raise
            raise NotPng("its pixels cannot be read") from error


def read_png(file: bytes) -> Png:
    """Split a file into its chunks, decompressing nothing.

    Raises:
        NotPng: it is not a PNG, is cut off, a checksum is wrong, or it has several headers.
    """
    chunks = list(_chunks(file))
    kinds = [kind for kind, _ in chunks]
    header = chunks[0][1]
    if kinds[0] != b"IHDR" or len(header) != len(WRITTEN_FORM) + 8:
        raise NotPng("it does not begin with a header")
    if kinds.count(b"IHDR") > 1:
        raise NotPng("it has more than one header")
    width, height = struct.unpack(">II", header[:8])
    texts = tuple(_text(kind, content) for kind, content in chunks if kind in (b"tEXt", b"iTXt"))
    data = b"".join(content for kind, content in chunks if kind == b"IDAT")
    rest = len(file) - len(SIGNATURE) - sum(CHUNK_FRAME + len(content) for _, content in chunks)
    altered = _foreign_chunk(kinds) or _foreign_form(header) or _foreign_text(texts)
    if altered is None and rest:
        altered = f"it has {rest} bytes after its end"
    return Png(width, height, texts, data, altered)


def _foreign_chunk(kinds: list[bytes]) -> str | None:
    for kind in kinds:
        if kind not in WRITTEN_CHUNKS:
            return f"it has a chunk {kind.decode('ascii')}, which this service does not write"
    first = kinds.index(b"IDAT") if b"IDAT" in kinds else 0
    if set(kinds[first : first + kinds.count(b"IDAT")]) > {b"IDAT"}:
        return "it has a chunk between those of its pixels"
    return None


def _foreign_form(header: bytes) -> str | None:
    if header[8:] != WRITTEN_FORM:
        return "its pixels are not stored as 8-bit RGB without interlacing"
    return None


def _foreign_text(texts: tuple[Text, ...]) -> str | None:
    keywords = [text.keyword for text in texts]
    for text in texts:
        keyword = text.keyword
        name = ascii(keyword.decode("latin-1"))
        as_latin = keyword == PNG_KEYWORD and text.encoding == "latin-1"
        if keyword not in WRITTEN_TEXTS or as_latin:
            return f"it has a text {name:.90}, which this service does not write"
        if keywords.count(keyword) > 1:
            return f"it has more than one text {name}"
    return None


def _text(kind: bytes, content: bytes) -> Text:
    """A tEXt is Latin-1; an iTXt has five fields more, of which this service leaves all empty."""
    keyword, _, text = content.partition(b"\0")
    if kind == b"tEXt":
        return Text(keyword, text, "latin-1")
    if not text.startswith(bytes(4)):
        return Text(content, b"", "utf-8")
    return Text(keyword, text[4:], "utf-8")


def _chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and content of each chunk, up to the end chunk."""
    if not file.startswith(SIGNATURE):
        raise NotPng("it does not begin with the signature of one" if file else "it is empty")
    place, kind = len(SIGNATURE), b""
    most = FEW_CHUNKS + len(file) // SHORTEST_CHUNK
    while kind != b"IEND":
        head = file[place : place + 8]
        size = int.from_bytes(head[:4], "big")
        if place + CHUNK_FRAME + size > len(file):
            raise NotPng(f"it is cut off after {len(file)} bytes")
        kind, content = head[4:], file[place + 8 : place + 8 + size]
        if _checksum(kind, content) != file[place + 8 + size : place + CHUNK_FRAME + size]:
            raise NotPng(f"the checksum of the chunk at byte {place} is wrong")
        if not kind.isalpha():
            raise NotPng(f"the chunk at byte {place} has no valid name")
        if not most:
            raise NotPng("it has too many chunks for its size")
        yield kind, content
        place += CHUNK_FRAME + size
        most -= 1


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + _checksum(kind, content)


def _checksum(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
