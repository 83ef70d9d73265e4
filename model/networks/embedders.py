"""Embedders: what turns timesteps, labels, patches and positions into vectors for DiT."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TimestepEmbedder(nn.Module):
    """Timesteps (N,), whole or fractional, -> vectors (N, D).

    As in the official code, the frequencies fall from 1 to just above 1 / max_period. In diffusers'
    DiTTransformer2DModel they reach exactly 1 / max_period (its downscale_freq_shift is 1), even
    for the official weights, which were not trained that way; pass 1 to match it.
    """

    def __init__(
        self,
        hidden_size: int,
        frequency_embedding_size: int = 256,
        downscale_freq_shift: int = 0,
    ) -> None:
        super().__init__()
        self.frequency_embedding_size = frequency_embedding_size
        self.downscale_freq_shift = downscale_freq_shift
        self.mlp = nn.Sequential(
            nn.Linear(frequency_embedding_size, hidden_size),
            nn.SiLU(),
            nn.Linear(hidden_size, hidden_size),
        )

    @staticmethod
    def timestep_embedding(
        t: Tensor, dim: int, max_period: float = 10000.0, *, downscale_freq_shift: int = 0
    ) -> Tensor:
        """Sinusoids of Vaswani et al. 2017, cosines first: (N,) -> fp32 (N, dim)."""
        half = dim // 2
        index = torch.arange(half, dtype=torch.float32, device=t.device)
        exponents = -math.log(max_period) * index / (half - downscale_freq_shift)
        angles = t.float()[:, None] * exponents.exp()  # (N, dim / 2)
        return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))

    def forward(self, t: Tensor) -> Tensor:
        sinusoids = self.timestep_embedding(
            t, self.frequency_embedding_size, downscale_freq_shift=self.downscale_freq_shift
        )
        vectors: Tensor = self.mlp(sinusoids.to(next(self.mlp.parameters()).dtype))
        return vectors


class LabelEmbedder(nn.Module):
    """Class labels (N,) -> vectors (N, D).

    With dropout the table has an extra last row, the null class. Labels are dropped only in
    training mode, or where ``force_drop_ids`` is 1.
    """

    def __init__(self, num_classes: int, hidden_size: int, dropout_prob: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.dropout_prob = dropout_prob
        self.embedding_table = nn.Embedding(num_classes + (dropout_prob > 0), hidden_size)

    def token_drop(self, labels: Tensor, force_drop_ids: Tensor | None = None) -> Tensor:
        """Replace labels by the null class: with dropout_prob, or where force_drop_ids is 1."""
        if force_drop_ids is None:
            dropped = torch.rand(labels.shape[0], device=labels.device) < self.dropout_prob
        else:
            dropped = force_drop_ids == 1
        return torch.where(dropped, self.num_classes, labels)

    def forward(self, labels: Tensor, force_drop_ids: Tensor | None = None) -> Tensor:
        if (self.training and self.dropout_prob > 0) or force_drop_ids is not None:
            labels = self.token_drop(labels, force_drop_ids)
        vectors: Tensor = self.embedding_table(labels)
        return vectors


class PatchEmbed(nn.Module):
    """Latents (N, C, H, W) -> tokens (N, T, D), one per patch, row by row."""

    def __init__(self, patch_size: int, in_channels: int, hidden_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, hidden_size, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return tokens


def sincos_pos_embed(dim: int, grid_size: int) -> Tensor:
    """Fixed 2-D position embedding, fp32 (grid_size**2, dim): first half columns, second half rows."""
    frequencies = 10000.0 ** -(np.arange(dim // 4, dtype=np.float64) / (dim / 4))
    angles = np.outer(np.arange(grid_size, dtype=np.float64), frequencies)  # (grid, dim / 4)
    line = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)  # (grid, dim / 2)
    columns, rows = np.tile(line, (grid_size, 1)), np.repeat(line, grid_size, axis=0)
    return torch.from_numpy(np.concatenate([columns, rows], axis=1)).float()
