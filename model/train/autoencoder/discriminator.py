"""Discriminator: tells decoded pictures from photographs, patch by patch.

A small PatchGAN (Isola et al. 2017, "Image-to-image translation with conditional adversarial networks",
section 3.2.2), conditioned on the class by projection (Miyato and Koyama 2018, "cGANs with projection
discriminator", section 3), with the hinge loss (Lim and Ye 2017, "Geometric GAN").
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Pixels (N, 3, S, S) and labels (N,) -> logits (N, S / 4, S / 4), each of a 26 x 26 patch."""

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
        )
        self.direction = nn.Parameter(torch.randn(2 * width) / (2 * width) ** 0.5)
        self.class_direction = nn.Embedding(num_classes, 2 * width)
        nn.init.zeros_(self.class_direction.weight)

    def forward(self, pixels: Tensor, labels: Tensor) -> Tensor:
        features = self.layers(pixels)  # (N, F, S / 4, S / 4)
        directions = self.direction + self.class_direction(labels)  # (N, F)
        return torch.einsum("nfhw,nf->nhw", features, directions)


def hinge_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's loss: zero once photographs are above 1 and decoded pictures below -1."""
    return (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()) / 2
