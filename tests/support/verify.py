"""PNG files taken apart and put together, and their verdicts from a running service."""

from __future__ import annotations

import io
import json
import struct
import zlib

import httpx
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.services import Running

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def verify(service: Running, file: bytes) -> httpx.Response:
    return service.client.post("/verify", content=file, headers={"Content-Type": "image/png"})


def verdict(service: Running, file: bytes) -> dict[str, object]:
    answer = verify(service, file)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert isinstance(content, dict)
    return content


def refusal(service: Running, file: bytes) -> tuple[str, str]:
    """The field and message of the only error of a file."""
    answer = verify(service, file)
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    return error["field"], error["message"]


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], len(SIGNATURE)
    while place < len(file):
        (size,) = struct.unpack(">I", file[place : place + 4])
        found.append((file[place + 4 : place + 8], file[place + 8 : place + 8 + size]))
        place += 12 + size
    return found


def png_of(parts: list[tuple[bytes, bytes]]) -> bytes:
    return SIGNATURE + b"".join(chunk(kind, content) for kind, content in parts)


def metadata(file: bytes) -> dict[str, object]:
    text = next(content for kind, content in chunks(file) if content.startswith(b"dit\0"))
    content = json.loads(text[4:])
    assert isinstance(content, dict)
    return content


def with_text(file: bytes, text: bytes) -> bytes:
    """The file with its `dit` text replaced."""
    new = (b"tEXt", b"dit\0" + text)
    return png_of([new if each[1].startswith(b"dit\0") else each for each in chunks(file)])


def with_metadata(file: bytes, **changes: object) -> bytes:
    """The file with fields of its metadata replaced."""
    return with_text(file, json.dumps(metadata(file) | changes, sort_keys=True).encode())


def repainted(file: bytes, pixels: np.ndarray) -> bytes:
    """The file with its pixels replaced."""
    return redrawn(file, Image.fromarray(pixels))


def redrawn(file: bytes, image: Image.Image) -> bytes:
    """The file with its image replaced, in the mode of the new one."""
    texts = PngInfo()
    for kind, content in chunks(file):
        if kind in (b"tEXt", b"iTXt"):
            texts.add(kind, content)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, pnginfo=texts)
    return buffer.getvalue()


def pixels_of(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))
