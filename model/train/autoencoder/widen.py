"""Wider networks that begin as the narrow one they grew out of.

Net2WiderNet (Chen, Goodfellow & Shlens 2016, section 2.2): every channel is repeated, and what read the
one channel reads its copies in unequal shares of the old weight. The pictures stay what they were, and
the copies, differing in what they pass on, learn different things from the first step.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor

UNEVENNESS = 0.5
"""How far a copy's share may lie from the even one, as a part of it."""


@torch.no_grad()
def widened(vae: AutoencoderKL, factor: int, seed: int = 0) -> AutoencoderKL:
    """An autoencoder ``factor`` times as wide that encodes and decodes alike, up to rounding.

    Raises:
        ValueError: its middle block attends: a repeated query would change the attention's scale.
    """
    if vae.config.mid_block_add_attention:
        raise ValueError("an autoencoder whose middle block attends cannot be widened")
    config = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    config["block_out_channels"] = [width * factor for width in vae.config.block_out_channels]
    wide = AutoencoderKL.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    narrow = vae.state_dict()
    for name, weight in wide.state_dict().items():
        weight.copy_(_repeated(narrow[name], weight.shape, generator))
    return wide.train(vae.training)


def _repeated(narrow: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A weight (O, ...) or (O, I, kh, kw) at its wide shape; a group's channels stay in its group."""
    weight = narrow.repeat_interleave(shape[0] // len(narrow), dim=0)
    factor = shape[1] // narrow.shape[1] if narrow.dim() > 1 else 1
    if factor == 1:
        return weight
    shares = torch.rand(shape[0], narrow.shape[1], factor, generator=generator)
    shares = 1 + UNEVENNESS * (2 * shares - 1)
    shares /= shares.sum(2, keepdim=True)  # (O, I, factor): of each input channel's copies
    return weight.repeat_interleave(factor, dim=1) * shares.reshape(shape[0], -1, 1, 1)
