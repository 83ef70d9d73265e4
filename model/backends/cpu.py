"""Packed: a DiT's forward pass on a CPU, its products in oneDNN's own order.

A plain linear layer reorders its weight for the CPU's kernels at every call, which at a few rows
takes as long as the product. Packed once, the same products take 0.5 to 0.8 of the time up to 32
tokens, and 0.55 to 0.9 from 64 to 512 (widths 256 to 1024, two cores), the GELU is part of the
product before it, and every row comes out the same, bit by bit, whatever the rows beside it. At a
few rows a call into torch costs as much as what it computes, so these are plain objects that call
its operators directly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backends.conditioning import Conditioning
from model.networks.dit import DiT, DiTBlock, modulation_vectors
from model.networks.embedders import PatchEmbed, TabulatedTimesteps

ROWS_HINT = 64
"""Rows of the products that the weights' order is chosen for; it made no difference from 1 to 512."""

FORESEEN_STEPS = 8
"""Steps of an image whose conditioning is computed at once; at two rows more gained nothing."""


def packable(dit: DiT) -> bool:
    """Whether oneDNN has these products on the network's device and in its dtype."""
    weights = dit.pos_embed
    if weights.device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    if weights.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weights.dtype == torch.float32


class PackedLinear:
    """A linear layer in oneDNN's order, for inference alone; ``gelu`` adds the tanh GELU."""

    __slots__ = ("_activation", "_algorithm", "_bias", "_product", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS_HINT)
        self._bias = None if bias is None else bias.detach().clone()
        self._activation, self._algorithm = ("gelu", "tanh") if gelu else ("none", "")
        self._product: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default

    @classmethod
    def of(cls, linear: nn.Linear, *, gelu: bool = False) -> PackedLinear:
        return cls(linear.weight, linear.bias, gelu=gelu)

    def __call__(self, x: Tensor) -> Tensor:
        return self._product(x, self._weight, self._bias, self._activation, [], self._algorithm)


class PackedPatchEmbed:
    """Latents (N, C, S, S) -> tokens (N, T, D), as one product."""

    def __init__(self, embed: PatchEmbed) -> None:
        self._patch_size = int(embed.proj.stride[0])
        self._proj = PackedLinear(embed.proj.weight.flatten(1), embed.proj.bias)

    def __call__(self, x: Tensor) -> Tensor:
        p = self._patch_size
        N, C, height, width = x.shape
        patches = x.view(N, C, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
        return self._proj(patches.reshape(N, -1, C * p * p))


class PackedBlock:
    """`DiTBlock.transform` on packed products."""

    __slots__ = ("_fc1", "_fc2", "_heads", "_proj", "_qkv", "_shape")

    def __init__(self, block: DiTBlock) -> None:
        attn, mlp = block.attn, block.mlp
        self._qkv, self._proj = PackedLinear.of(attn.qkv), PackedLinear.of(attn.proj)
        self._fc1, self._fc2 = PackedLinear.of(mlp.fc1, gelu=True), PackedLinear.of(mlp.fc2)
        self._heads = attn.num_heads
        self._shape = (attn.proj.in_features,)

    def __call__(self, x: Tensor, modulation: Sequence[Tensor]) -> Tensor:
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation
        attended = self._attend(_modulated(x, self._shape, shift_attn, scale_attn))
        x = torch.addcmul(x, gate_attn, attended)
        inner = self._fc1(_modulated(x, self._shape, shift_mlp, scale_mlp))
        return torch.addcmul(x, gate_mlp, self._fc2(inner))

    def _attend(self, x: Tensor) -> Tensor:
        N, T, D = x.shape
        qkv = self._qkv(x).view(N, T, 3, self._heads, D // self._heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, T, head_dim) each
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self._proj(mixed.transpose(1, 2).reshape(N, T, D))


class PackedDiT:
    """`DiT.forward` for whole timesteps below ``timesteps``, from the network's weights.

    The network gives up its weights on the way, layer by layer, so that each is there twice for a
    moment only. ``kept`` is the number of (timestep, label) pairs whose conditioning is kept.
    """

    def __init__(self, dit: DiT, timesteps: int, *, kept: int) -> None:
        self._hidden_size = dit.pos_embed.shape[-1]
        self._pos_embed = dit.pos_embed.detach()
        self._embed_patches = PackedPatchEmbed(dit.x_embedder)
        self._unpatchify = dit.unpatchify
        self.conditioning = _conditioning(dit, timesteps, kept)
        self._blocks = [_taken(block) for block in cast("list[DiTBlock]", list(dit.blocks))]
        self._linear = PackedLinear.of(dit.final_layer.linear)
        for given_up in (dit.x_embedder, dit.t_embedder, dit.final_layer):
            given_up.to("meta")

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        tokens = self._embed_patches(x.to(self._pos_embed.dtype)) + self._pos_embed  # (N, T, D)
        vectors = self.conditioning(t, y)
        for i, block in enumerate(self._blocks):
            tokens = block(tokens, vectors[6 * i : 6 * i + 6])
        shift, scale = vectors[-2:]
        patches = self._linear(_modulated(tokens, (self._hidden_size,), shift, scale))
        return self._unpatchify(patches).to(x.dtype)


def _modulated(x: Tensor, shape: tuple[int], shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, torch.layer_norm(x, shape, None, None, 1e-6), scale)


def _taken(block: DiTBlock) -> PackedBlock:
    packed = PackedBlock(block)
    block.to("meta")
    return packed


def _conditioning(dit: DiT, timesteps: int, kept: int) -> Conditioning:
    hidden_size = dit.pos_embed.shape[-1]
    embed_timesteps = TabulatedTimesteps(dit.t_embedder, timesteps)
    product = PackedLinear(*dit.give_up_modulations())

    def vectors(c: Tensor) -> Tensor:
        # In fp64, for fp32's exp differs in its last bit between the ends and the middle of a tensor.
        return modulation_vectors(product(F.silu(c.double()).to(c.dtype)), hidden_size)

    def embed(t: Tensor, y: Tensor) -> Tensor:
        embedded: Tensor = embed_timesteps(t) + dit.y_embedder(y)
        return embedded

    return Conditioning(embed, vectors, kept=kept)
