"""CUDA: a DiT's forward pass with what lies between two products fused into one kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from model.backends.eager import EagerNetwork
from model.backends.kernels import add_gelu_, add_norm_modulate, compare, norm_modulate
from model.networks.blocks import VECTORS_PER_BLOCK, DiTBlock, Mlp, modulate
from model.networks.dit import DiT

SAMPLE_ROWS, SAMPLE_TOKENS = 2, 16
"""Rows and tokens on which `check_kernels` compares the kernels with torch."""


class CudaNetwork(EagerNetwork):
    """The network for CUDA where Triton works: `EagerNetwork` on fused kernels.

    The products and the attention are torch's. Create it only after `check_kernels` has passed.
    """

    def _transform(self, tokens: Tensor, vectors: Sequence[Tensor]) -> Tensor:
        # The vectors, in order: shift and scale of the first layer; then each layer's gate with the
        # shift and scale of the next layer, which for the last MLP is the final layer.
        shift, scale = vectors[:2]
        x = tokens.contiguous()
        normed = norm_modulate(x, shift, scale)
        for i, block in enumerate(cast("Iterable[DiTBlock]", self._dit.blocks)):
            first = VECTORS_PER_BLOCK * i + 2
            gate, shift, scale = vectors[first : first + 3]
            y = block.attn(normed)
            x, normed = add_norm_modulate(x, gate, y, shift=shift, scale=scale)
            gate, shift, scale = vectors[first + 3 : first + 6]
            y = _mlp(block.mlp, normed)
            x, normed = add_norm_modulate(x, gate, y, shift=shift, scale=scale)
        return normed


def _mlp(mlp: Mlp, x: Tensor) -> Tensor:
    """`Mlp`, but the bias of its first product is added with the GELU."""
    inner = F.linear(x, mlp.fc1.weight)  # (N, T, 4 D)
    transformed: Tensor = mlp.fc2(add_gelu_(inner, mlp.fc1.bias))
    return transformed


@torch.inference_mode()
def check_kernels(dit: DiT) -> None:
    """Compile the kernels for the DiT's widths, dtype and device, and compare them with torch.

    Raises:
        RuntimeError: a kernel's values differ from torch's.
        Exception: Triton cannot compile or launch. Its errors have no common base class, and a
            missing C compiler, cache folder or driver raises others still.
    """
    weights, generator = dit.pos_embed, torch.Generator().manual_seed(0)

    def sample(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(weights.device, weights.dtype)

    D = weights.shape[-1]
    x, y = sample(2, SAMPLE_ROWS, SAMPLE_TOKENS, D).unbind(0)
    gate, shift, scale = sample(SAMPLE_ROWS, 3, 1, D).unbind(1)
    expected = torch.addcmul(x.float(), gate.float(), y.float())
    total, out = add_norm_modulate(x, gate, y, shift=shift, scale=scale)
    compare(norm_modulate(x, shift, scale), modulate(x.float(), shift.float(), scale.float()))
    compare(total, expected)
    compare(out, modulate(expected, shift.float(), scale.float()))

    inner_size = next(iter(cast("Iterable[DiTBlock]", dit.blocks))).mlp.fc1.out_features
    inner, bias = sample(SAMPLE_ROWS, SAMPLE_TOKENS, inner_size), sample(inner_size)
    expected = F.gelu(inner.float() + bias.float(), approximate="tanh")
    compare(add_gelu_(inner, bias), expected)
