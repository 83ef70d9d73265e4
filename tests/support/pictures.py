"""Pictures that tests draw for a training to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def paint(path: Path, level: int, size: tuple[int, int] = (32, 32)) -> None:
    """A disc of one grey level on white, with a little texture."""
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    disc = np.hypot(rows - height / 2, columns - width / 2) < min(size) / 3
    grey = np.where(disc, level + (rows * columns) % 7, 255)
    pixels = np.stack([grey, grey, grey], axis=2).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
