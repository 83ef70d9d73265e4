"""Measures: numbers that say how alike pictures are, one by one and as sets."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, DEVIATION = 11, 1.5
"""The Gaussian window of SSIM, in pixels (Wang et al. 2004)."""


def psnr(pictures: Tensor, truth: Tensor) -> float:
    """Mean PSNR in dB of uint8 pictures (N, 3, S, S) beside those they should be."""
    error = (pictures.float() - truth.float()).square().mean((1, 2, 3))
    return float((10 * torch.log10(255.0**2 / error.clamp_min(1e-4))).mean())


def ssim(pictures: Tensor, truth: Tensor) -> float:
    """Mean structural similarity (Wang et al. 2004) of uint8 pictures (N, 3, S, S), by channel."""
    x, y = (each.double().flatten(0, 1)[:, None] for each in (pictures, truth))  # (3 N, 1, S, S)
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x, variance_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    largest = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float((likeness / largest).mean())


def _windowed(x: Tensor) -> Tensor:
    """Means (M, 1, S, S) under the Gaussian window, where it lies inside the picture."""
    places = torch.arange(WINDOW, dtype=x.dtype) - WINDOW // 2
    line = torch.exp(-places.square() / (2 * DEVIATION**2))
    line = line / line.sum()
    return F.conv2d(F.conv2d(x, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance of the Gaussians fitted to features (N, F) and (M, F)."""
    x, y = a.double().numpy(), b.double().numpy()
    covariance_x, covariance_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # tr (A B)^(1/2) is the sum of the roots of A B's eigenvalues, which are real and not below 0.
    eigenvalues = np.linalg.eigvals(covariance_x @ covariance_y).real.clip(min=0)
    means = np.square(x.mean(0) - y.mean(0)).sum()
    traces = np.trace(covariance_x) + np.trace(covariance_y)
    return max(0.0, float(means + traces - 2 * np.sqrt(eigenvalues).sum()))


def spread(pictures: Tensor) -> float:
    """Mean distance, as `distances` has it, of two different pictures (N, 3, S, S) of a set."""
    between = distances(pictures, pictures)
    count = len(pictures)
    return float(between.sum() / (count * (count - 1)))


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square difference, in levels of 255, of pictures (N, 3, S, S), (M, ...): (N, M)."""
    x, y = a.flatten(1).double(), b.flatten(1).double()
    squares = x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T
    return (squares.clamp_min(0) / x.shape[1]).sqrt()


def nearest(pictures: Tensor, photographs: Tensor) -> Tensor:
    """Distance (N,) of each picture to the nearest photograph, as it is or mirrored."""
    mirrored = distances(pictures, photographs.flip(3)).amin(1)
    return torch.minimum(distances(pictures, photographs).amin(1), mirrored)
