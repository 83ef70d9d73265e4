"""GuidedDenoiser: a frozen DiT's guided answer, which gradients pass through."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from model.networks.dit import DiT

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Latents (N, C, S, S), one timestep as a scalar, labels (N,) -> the noise (N, C, S, S)."""


class GuidedDenoiser:
    """`Denoise` with guidance, for whole and fractional timesteps.

    No activation of the network is kept for the gradients: they are computed again, so that a large
    DiT fits.

    Raises:
        ValueError: guidance is asked for, but the DiT has no null class.
    """

    def __init__(self, dit: DiT, cfg_scale: float) -> None:
        if cfg_scale != 1.0 and dit.null_class is None:
            raise ValueError("the model has no null class, so cfg_scale must be 1")
        self._dit = dit
        self.cfg_scale = cfg_scale

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if x.requires_grad or t.requires_grad:
            noise: Tensor = checkpoint(self._noise, x, t, labels, use_reentrant=False)
            return noise
        return self._noise(x, t, labels)

    def _noise(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        channels = x.shape[1]
        if self.cfg_scale == 1.0:
            noise: Tensor = self._dit(x, t.expand(len(x)), labels)[:, :channels]
            return noise
        null = torch.full_like(labels, self._dit.num_classes)
        rows, both = torch.cat([x, x]), torch.cat([labels, null])
        answers: Tensor = self._dit(rows, t.expand(len(rows)), both)
        conditional, unconditional = answers[:, :channels].chunk(2)
        return unconditional + self.cfg_scale * (conditional - unconditional)
