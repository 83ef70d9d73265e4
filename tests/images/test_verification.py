"""Verification: the size that a file may have."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from service.images.claim import longest_file


def test_a_large_picture_fits_even_uncompressed() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG", compress_level=0)
    assert 2**20 < len(buffer.getvalue()) <= longest_file(600)
