"""Widening: a wider autoencoder that computes the same function as the narrow one.

Net2WiderNet (Chen, Goodfellow & Shlens 2016, section 2.2): every channel is repeated, and each of its
copies is read with a part of the old weight. The parts are unequal, so the copies get different
gradients and learn different things from the first step.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor

UNEVENNESS = 0.5
"""How far a copy's part may differ from the even split, relative to it."""


@torch.no_grad()
def widen(vae: AutoencoderKL, factor: int, seed: int = 0) -> AutoencoderKL:
    """An autoencoder ``factor`` times as wide with the same outputs, up to rounding.

    Raises:
        ValueError: its middle block has attention: repeated queries would change the attention's scale.
    """
    if vae.config.mid_block_add_attention:
        raise ValueError("cannot widen an autoencoder whose middle block has attention")
    config = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    config["block_out_channels"] = [width * factor for width in vae.config.block_out_channels]
    wide = AutoencoderKL.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    narrow = vae.state_dict()
    for name, weight in wide.state_dict().items():
        weight.copy_(_widened_weight(narrow[name], weight.shape, generator))
    return wide.train(vae.training)


def _widened_weight(narrow: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A weight (O, ...) or (O, I, kh, kw) at its wide shape; copies stay in their norm group."""
    weight = narrow.repeat_interleave(shape[0] // len(narrow), dim=0)
    factor = shape[1] // narrow.shape[1] if narrow.dim() > 1 else 1
    if factor == 1:
        return weight
    parts = torch.rand(shape[0], narrow.shape[1], factor, generator=generator)
    parts = 1 + UNEVENNESS * (2 * parts - 1)
    parts /= parts.sum(2, keepdim=True)  # (O, I, factor), summing to 1 over an input's copies
    return weight.repeat_interleave(factor, dim=1) * parts.reshape(shape[0], -1, 1, 1)
