"""Frechet distance between two sets of features."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance of the Gaussians fitted to features (N, F) and (M, F).

    Dowson & Landau 1982; on a classifier's features it is the measure of Heusel et al. 2017.
    """
    x, y = a.double().numpy(), b.double().numpy()
    covariance_x, covariance_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # tr (A B)^(1/2) is the sum of the square roots of A B's eigenvalues, which are real and >= 0.
    eigenvalues = np.linalg.eigvals(covariance_x @ covariance_y).real.clip(min=0)
    means = np.square(x.mean(0) - y.mean(0)).sum()
    traces = np.trace(covariance_x) + np.trace(covariance_y)
    return max(0.0, float(means + traces - 2 * np.sqrt(eigenvalues).sum()))
