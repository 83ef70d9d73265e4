"""Encoding: pixels -> PNG, WebP or JPEG bytes that carry the parameters they were made with."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

CONTENT_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
PNG_LEVEL = 1  # deflate's fastest: slower levels take far longer for a few per cent fewer bytes
LOSSY_QUALITY = 95
EXIF_USER_COMMENT = 0x9286
EXIF_IFD = 0x8769


@dataclass(frozen=True, slots=True)
class ImageParameters:
    """Everything that determines one image; written into its file, without a time stamp."""

    class_label: int
    class_name: str
    cfg_scale: float
    num_sampling_steps: int
    sampler: str
    seed: int
    guidance_interval: tuple[float, float]
    image_size: int
    model: str
    model_digest: str
    dtype: str
    reproducible: bool
    version: str

    def as_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def as_line(self) -> str:
        """The form that image tools read: the prompt, then the settings on one line."""
        settings = {
            "Steps": self.num_sampling_steps,
            "Sampler": self.sampler,
            "CFG scale": self.cfg_scale,
            "Seed": self.seed,
            "Size": f"{self.image_size}x{self.image_size}",
            "Model": self.model,
            "Model hash": self.model_digest[:10],
            "Class": self.class_label,
        }
        return f"{self.class_name}\n" + ", ".join(f"{k}: {v}" for k, v in settings.items())


def encode(pixels: np.ndarray, output_format: str, parameters: ImageParameters) -> bytes:
    """Encode uint8 (H, W, 3); the same pixels and parameters give the same bytes."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if output_format == "png":
        image.save(buffer, "PNG", compress_level=PNG_LEVEL, pnginfo=_png_texts(parameters))
    else:
        exif = Image.Exif()
        comment = b"ASCII\0\0\0" + parameters.as_json().encode("ascii")
        exif.get_ifd(EXIF_IFD)[EXIF_USER_COMMENT] = comment
        image.save(buffer, output_format.upper(), quality=LOSSY_QUALITY, exif=exif)
    return buffer.getvalue()


def _png_texts(parameters: ImageParameters) -> PngInfo:
    """tEXt chunks; a class name outside Latin-1 makes the first an iTXt."""
    texts = PngInfo()
    texts.add_text("parameters", parameters.as_line())
    texts.add_text("dit", parameters.as_json())
    return texts
