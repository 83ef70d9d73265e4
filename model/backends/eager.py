"""Eager: a DiT's own layers, with all adaLN products taken as one before the first block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from model.backends.adaln import TabulatedEmbeddings, joined_products
from model.backends.network import Pair
from model.networks.blocks import (
    VECTORS_PER_BLOCK,
    DiTBlock,
    apply_block,
    modulate,
    modulation_vectors,
)
from model.networks.dit import DiT


class EagerNetwork(nn.Module):
    """The network for any device without oneDNN's products or Triton's kernels.

    It computes with the layers of ``dit``. Unless ``consume`` empties the adaLN layers, their
    weights, about a third of all, are in memory twice.
    """

    rows_are_independent = False
    foreseen_steps = 0

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        dit: DiT,
        *,
        timesteps: int,
        fractional: Sequence[float] = (),
        consume: bool = False,
    ) -> None:
        super().__init__()
        self._dit = dit
        self._embed = TabulatedEmbeddings(dit, timesteps, fractional)
        weight, bias = joined_products(dit, consume=consume)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def foresee(self, pairs: Iterable[Pair]) -> None:
        """Nothing is kept between calls."""

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        tokens = self._dit.patchify(x)  # (N, T, D)
        product = F.linear(F.silu(self._embed(t, y)), self.weight, self.bias)  # (N, V D)
        vectors = modulation_vectors(product, tokens.shape[-1]).unbind(1)  # V of (N, 1, D)
        patches = self._dit.final_layer.linear(self._transform(tokens, vectors))
        return self._dit.unpatchify(patches).to(x.dtype)

    def _transform(self, tokens: Tensor, vectors: Sequence[Tensor]) -> Tensor:
        """All blocks and the final layer's modulation: tokens (N, T, D) -> (N, T, D)."""
        for i, block in enumerate(cast("Iterable[DiTBlock]", self._dit.blocks)):
            modulation = vectors[VECTORS_PER_BLOCK * i : VECTORS_PER_BLOCK * (i + 1)]
            tokens = apply_block(tokens, modulation, block.attn, block.mlp)
        shift, scale = vectors[-2:]
        return modulate(tokens, shift, scale)
