"""Encoding: pixels -> PNG, WebP or JPEG bytes that carry the image's parameters and origin."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.images.metadata.exif import USER_COMMENT
from service.images.metadata.xmp import PNG_KEYWORD, xmp_packet
from service.images.parameters import ImageParameters

OutputFormat = Literal["png", "webp", "jpeg"]
CONTENT_TYPES: dict[OutputFormat, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "jpeg": "image/jpeg",
}
PNG_LEVEL = 1  # deflate's fastest: slower levels take far longer and save a few per cent
LOSSY_QUALITY = 95
EXIF_USER_COMMENT = 0x9286
EXIF_IFD = 0x8769


def encode(
    pixels: np.ndarray,
    output_format: OutputFormat,
    parameters: ImageParameters,
    *,
    xmp: bool = True,
) -> bytes:
    """Encode uint8 (H, W, 3). The same pixels and parameters always give the same bytes.

    Args:
        xmp: write the packet that says that the picture was generated.
    """
    packet = packet_of(parameters) if xmp else None
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if output_format == "png":
        image.save(buffer, "PNG", compress_level=PNG_LEVEL, pnginfo=_png_texts(parameters, packet))
    else:
        exif = Image.Exif()
        comment = USER_COMMENT + parameters.as_json().encode("ascii")
        exif.get_ifd(EXIF_IFD)[EXIF_USER_COMMENT] = comment
        quality = parameters.output_compression
        quality = LOSSY_QUALITY if quality is None else quality
        more = {} if packet is None else {"xmp": packet}
        image.save(buffer, output_format.upper(), quality=quality, exif=exif, **more)
    return buffer.getvalue()


def packet_of(parameters: ImageParameters) -> bytes:
    """The XMP packet of a picture with these parameters."""
    return xmp_packet(parameters.model, parameters.version)


def _png_texts(parameters: ImageParameters, packet: bytes | None) -> PngInfo:
    """tEXt chunks; a class name outside Latin-1 turns the first into an iTXt, as XMP always is."""
    texts = PngInfo()
    texts.add_text("parameters", parameters.as_line())
    texts.add_text("dit", parameters.as_json())
    if packet is not None:
        texts.add_itxt(PNG_KEYWORD.decode(), packet.decode())
    return texts
