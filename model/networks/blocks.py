"""Blocks: the transformer block and the final layer of DiT, as modules and as plain functions.

The functions take the linear layers as arguments, so a backend can compute the same block with its
own products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = Callable[[Tensor], Tensor]

VECTORS_PER_BLOCK, VECTORS_OF_FINAL_LAYER = 6, 2
"""adaLN vectors: (shift, scale, gate) for the attention and for the MLP; (shift, scale) at the end."""


def modulation_vectors(product: Tensor, hidden_size: int) -> Tensor:
    """Split adaLN products (N, V D) into vectors (N, V, 1, D): shift, 1 + scale, gate, ...

    Scales are at index 1, 4, 7, ..., both in one layer's product and in the products of all layers
    side by side. Adds the 1 to ``product`` in place.
    """
    vectors = product.view(len(product), -1, 1, hidden_size)
    vectors[:, 1::3] += 1
    return vectors


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm of tokens (N, T, D), times ``scale`` plus ``shift``, each (N, 1, D)."""
    return torch.addcmul(shift, torch.layer_norm(x, (x.shape[-1],), None, None, 1e-6), scale)


def attend(qkv: Tensor, num_heads: int) -> Tensor:
    """Multi-head attention over all tokens: q, k and v side by side (N, T, 3 D) -> (N, T, D)."""
    N, T, width = qkv.shape
    heads = qkv.view(N, T, 3, num_heads, width // (3 * num_heads))
    q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, T, head_dim) each
    mixed = F.scaled_dot_product_attention(q, k, v)
    return mixed.transpose(1, 2).reshape(N, T, width // 3)


def apply_block(x: Tensor, modulation: Sequence[Tensor], attention: Layer, mlp: Layer) -> Tensor:
    """A DiT block with adaLN-Zero (section 3.2 of the paper) on tokens (N, T, D).

    Args:
        x: the tokens.
        modulation: the block's six vectors, (N, 1, D) each, as `modulation_vectors` gives them.
        attention: tokens -> tokens, projections included.
        mlp: tokens -> tokens.
    """
    shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation
    x = torch.addcmul(x, gate_attn, attention(modulate(x, shift_attn, scale_attn)))
    return torch.addcmul(x, gate_mlp, mlp(modulate(x, shift_mlp, scale_mlp)))


class Modulation(nn.Sequential):
    """SiLU and Linear: conditioning (N, D) -> modulation vectors, (N, 1, D) each."""

    def __init__(self, hidden_size: int, vectors: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(hidden_size, vectors * hidden_size))

    @property
    def linear(self) -> nn.Linear:
        return cast(nn.Linear, self[1])

    def forward(self, c: Tensor) -> Sequence[Tensor]:
        product = self.linear(F.silu(c))  # (N, V D)
        return modulation_vectors(product, c.shape[-1]).unbind(1)


class Attention(nn.Module):
    """Multi-head self-attention over tokens (N, T, D)."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.proj(attend(self.qkv(x), self.num_heads))
        return projected


class Mlp(nn.Module):
    """Linear, tanh-GELU, Linear."""

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, inner_size)
        self.fc2 = nn.Linear(inner_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        transformed: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return transformed


class DiTBlock(nn.Module):
    """`apply_block` with its own layers: tokens (N, T, D), conditioning (N, D) -> tokens."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.attn = Attention(hidden_size, num_heads)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio))
        self.adaLN_modulation = Modulation(hidden_size, VECTORS_PER_BLOCK)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return apply_block(x, self.adaLN_modulation(c), self.attn, self.mlp)


class FinalLayer(nn.Module):
    """Tokens (N, T, D), conditioning (N, D) -> patches (N, T, patch_size**2 * out_channels)."""

    def __init__(self, hidden_size: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, patch_size * patch_size * out_channels)
        self.adaLN_modulation = Modulation(hidden_size, VECTORS_OF_FINAL_LAYER)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c)
        patches: Tensor = self.linear(modulate(x, shift, scale))
        return patches


def unpatchify(patches: Tensor, patch_size: int, grid_size: int) -> Tensor:
    """Patches (N, G * G, p * p * C) -> latents (N, C, G * p, G * p)."""
    N, _, width = patches.shape
    p, G = patch_size, grid_size
    C = width // (p * p)
    x = patches.reshape(N, G, G, p, p, C)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(N, C, G * p, G * p)
