"""Pictures for the tests of training and evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn


def paint(path: Path, level: int, size: tuple[int, int] = (32, 32)) -> None:
    """Write a picture of a slightly textured grey disc on white."""
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    disc = np.hypot(rows - height / 2, columns - width / 2) < min(size) / 3
    grey = np.where(disc, level + (rows * columns) % 7, 255)
    pixels = np.stack([grey, grey, grey], axis=2).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def random_images(count: int, size: int = 32) -> Tensor:
    """Smooth random pictures, uint8 (count, 3, size, size); the same at every call."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return (smooth * 255).to(torch.uint8)
