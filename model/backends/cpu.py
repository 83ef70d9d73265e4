"""CPU: a DiT's forward pass on products packed for oneDNN.

A plain linear layer reorders its weight for the CPU's kernels at every call, which for a few rows
takes as long as the product itself. With weights reordered once ("packed"), the products take 0.5 to
0.8 of the time up to 32 tokens, and 0.55 to 0.9 from 64 to 512 (widths 256 to 1024, two cores); the
GELU is fused into the product before it; and mostly a row's bits do not depend on the other rows: with
AMX and bfloat16, oneDNN adds up long sums (of 1024 and more) in another order for few than for many. For a few
rows, a call into torch costs as much as what it computes, so these classes are plain objects that
call torch's operators directly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backends.adaln import TabulatedEmbeddings, joined_products
from model.backends.conditioning import Conditioning
from model.backends.network import Pair
from model.networks.blocks import (
    VECTORS_PER_BLOCK,
    DiTBlock,
    apply_block,
    attend,
    modulate,
    modulation_vectors,
    unpatchify,
)
from model.networks.dit import DiT
from model.networks.embedders import PatchEmbed

ROWS_HINT = 64
"""The row count for which oneDNN picks the weights' order; from 1 to 512 it made no difference."""

FORESEEN_STEPS = 8
"""Steps of an image whose conditioning is computed together; at two rows, more gained nothing."""


PROBED_ROWS = (2, 3, 5, 8, 9, 16, 32)
"""Numbers of forward rows among which a row is compared with itself alone."""


def has_onednn_products(dit: DiT) -> bool:
    """Whether oneDNN can compute linear layers on the DiT's device in its dtype."""
    weights = dit.pos_embed
    if weights.device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    if weights.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weights.dtype == torch.float32


class PackedLinear:
    """A linear layer in oneDNN's order, for inference only; ``gelu`` appends the tanh GELU."""

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
    """`apply_block` on packed products."""

    __slots__ = ("_fc1", "_fc2", "_heads", "_proj", "_qkv")

    def __init__(self, block: DiTBlock) -> None:
        attn, mlp = block.attn, block.mlp
        self._qkv, self._proj = PackedLinear.of(attn.qkv), PackedLinear.of(attn.proj)
        self._fc1, self._fc2 = PackedLinear.of(mlp.fc1, gelu=True), PackedLinear.of(mlp.fc2)
        self._heads = attn.num_heads

    def __call__(self, x: Tensor, modulation: Sequence[Tensor]) -> Tensor:
        return apply_block(x, modulation, self._attention, self._mlp)

    def _attention(self, x: Tensor) -> Tensor:
        return self._proj(attend(self._qkv(x), self._heads))

    def _mlp(self, x: Tensor) -> Tensor:
        return self._fc2(self._fc1(x))


class CpuNetwork:
    """The network for a CPU whose products oneDNN has.

    Args:
        dit: the model; the label table and ``pos_embed`` are shared with it, the rest is copied.
        timesteps: whole timesteps 0 .. timesteps - 1 can be asked for.
        fractional: and these.
        kept: (timestep, label) pairs whose conditioning is kept.
        consume: empty each of the layers of ``dit`` as soon as it is packed.
    """

    foreseen_steps = FORESEEN_STEPS

    def __init__(
        self,
        dit: DiT,
        *,
        timesteps: int,
        fractional: Sequence[float] = (),
        kept: int,
        consume: bool = False,
    ) -> None:
        self._patch_size, self._grid_size = dit.patch_size, dit.grid_size
        self._pos_embed = dit.pos_embed.detach()
        self._embed_patches = PackedPatchEmbed(dit.x_embedder)
        embed = TabulatedEmbeddings(dit, timesteps, fractional)
        self.conditioning = _conditioning(dit, embed, kept=kept, consume=consume)
        self._mlp_shape = tuple(next(iter(_blocks(dit))).mlp.fc1.weight.shape)
        self._blocks = [_packed(block, consume=consume) for block in _blocks(dit)]
        self._linear = PackedLinear.of(dit.final_layer.linear)
        if consume:
            for module in (dit.x_embedder, dit.t_embedder, dit.y_embedder, dit.final_layer):
                module.to("meta")

    @functools.cached_property
    def rows_are_independent(self) -> bool:
        """Whether a row's bits do not depend on the other rows, as measured on this machine."""
        _, tokens, width = self._pos_embed.shape
        shapes = [(3 * width, width), (width, width), self._mlp_shape, self._mlp_shape[::-1]]
        return all(_has_independent_rows(each, tokens, self._pos_embed.dtype) for each in shapes)

    def foresee(self, pairs: Iterable[Pair]) -> None:
        self.conditioning.foresee(pairs)

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        tokens = self._embed_patches(x.to(self._pos_embed.dtype)) + self._pos_embed  # (N, T, D)
        vectors = self.conditioning(t, y)  # V of (N, 1, D)
        for i, block in enumerate(self._blocks):
            tokens = block(tokens, vectors[VECTORS_PER_BLOCK * i : VECTORS_PER_BLOCK * (i + 1)])
        shift, scale = vectors[-2:]
        patches = self._linear(modulate(tokens, shift, scale))
        return unpatchify(patches, self._patch_size, self._grid_size).to(x.dtype)


@torch.inference_mode()
def _has_independent_rows(shape: tuple[int, ...], tokens: int, dtype: torch.dtype) -> bool:
    """Whether a product of this shape gives a row's ``tokens`` the same bits alone and in company.

    On random numbers, and many: where it does not, rounding to bfloat16 still hides most of it.
    """
    generator = torch.Generator().manual_seed(0)
    product = PackedLinear(torch.randn(shape, generator=generator).to(dtype), None)
    rows = torch.randn(max(PROBED_ROWS), tokens, shape[1], generator=generator).to(dtype)
    alone = torch.cat([product(rows[i : i + 1]) for i in range(len(rows))])
    return all(torch.equal(product(rows[:count]), alone[:count]) for count in PROBED_ROWS)


def _blocks(dit: DiT) -> Iterable[DiTBlock]:
    return cast("Iterable[DiTBlock]", dit.blocks)


def _packed(block: DiTBlock, *, consume: bool) -> PackedBlock:
    packed = PackedBlock(block)
    if consume:
        block.to("meta")
    return packed


def _conditioning(
    dit: DiT, embed: TabulatedEmbeddings, *, kept: int, consume: bool
) -> Conditioning:
    hidden_size = dit.pos_embed.shape[-1]
    product = PackedLinear(*joined_products(dit, consume=consume))

    def vectors(c: Tensor) -> Tensor:
        # In fp64: fp32's exp differs in its last bit between the ends and the middle of a tensor.
        return modulation_vectors(product(F.silu(c.double()).to(c.dtype)), hidden_size)

    return Conditioning(embed, vectors, kept=kept)
