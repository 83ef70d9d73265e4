"""Similarity: how alike pictures are, pixel by pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, DEVIATION = 11, 1.5
"""The Gaussian window of SSIM, in pixels (Wang et al. 2004)."""


def psnr(pictures: Tensor, originals: Tensor) -> float:
    """Mean PSNR in dB of uint8 pictures (N, 3, S, S) against their originals."""
    error = (pictures.float() - originals.float()).square().mean((1, 2, 3))
    return float((10 * torch.log10(255.0**2 / error.clamp_min(1e-4))).mean())


def ssim(pictures: Tensor, originals: Tensor) -> float:
    """Mean structural similarity of uint8 pictures (N, 3, S, S) to their originals, over channels.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
    """
    x, y = (
        each.double().flatten(0, 1)[:, None] for each in (pictures, originals)
    )  # (3 N, 1, S, S)
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x, variance_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    denominator = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float((numerator / denominator).mean())


def _windowed(x: Tensor) -> Tensor:
    """Gaussian-weighted means of x (M, 1, S, S), where the window lies inside the picture."""
    offsets = torch.arange(WINDOW, dtype=x.dtype) - WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * DEVIATION**2))
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))


def distances(a: Tensor, b: Tensor) -> Tensor:
    """RMS differences, in levels of 255, between pictures (N, 3, S, S) and (M, 3, S, S): (N, M)."""
    x, y = a.flatten(1).double(), b.flatten(1).double()
    squares = x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T
    return (squares.clamp_min(0) / x.shape[1]).sqrt()


def paired_distances(pictures: Tensor, originals: Tensor) -> Tensor:
    """RMS difference (N,), in levels of 255, of each picture (N, 3, S, S) from its own original."""
    difference = pictures.double() - originals.double()
    return difference.square().mean((1, 2, 3)).sqrt()


def nearest(pictures: Tensor, photographs: Tensor) -> Tensor:
    """Distance (N,) of each picture to the nearest photograph, mirrored or not."""
    mirrored = distances(pictures, photographs.flip(3)).amin(1)
    return torch.minimum(distances(pictures, photographs).amin(1), mirrored)


def spread(pictures: Tensor) -> float:
    """Mean distance between two different pictures of a set (N, 3, S, S)."""
    count = len(pictures)
    return float(distances(pictures, pictures).sum() / (count * (count - 1)))
