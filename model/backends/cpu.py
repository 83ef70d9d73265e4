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

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backends.adaln import TabulatedEmbeddings, joined_products
from model.backends.conditioning import Conditioning
from model.backends.network import Pair
from model.backends.row_plan import (
    AS_IT_IS,
    PROBED_ROWS,
    Product,
    RowPlan,
    first_independent,
    plans,
)
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

GROUPED_PAIRS = 2 * FORESEEN_STEPS
"""Pairs of every product for the conditioning where a row's bits must not depend on the others."""


def has_onednn_products(dit: DiT) -> bool:
    """Whether oneDNN can compute linear layers on the DiT's device in its dtype."""
    weights = dit.pos_embed
    if weights.device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    if weights.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weights.dtype == torch.float32


class PackedLinear:
    """A linear layer in oneDNN's order, for inference only; ``gelu`` appends the tanh GELU.

    In bfloat16 it is the exact GELU, of which tanh's is an approximation: oneDNN computes it in 0.6 of
    the time, and they differ by 2e-4 of an answer of the bundled model, whose rounding is 1.1e-2.
    """

    __slots__ = ("_activation", "_algorithm", "_bias", "_product", "_weight", "shape")

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        self.shape = (weight.shape[0], weight.shape[1])
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS_HINT)
        self._bias = None if bias is None else bias.detach().clone()
        self._activation = "gelu" if gelu else "none"
        self._algorithm = "none" if weight.dtype == torch.bfloat16 else "tanh"
        self._product: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default

    @classmethod
    def of(cls, linear: nn.Linear, *, gelu: bool = False) -> PackedLinear:
        return cls(linear.weight, linear.bias, gelu=gelu)

    def __call__(self, x: Tensor) -> Tensor:
        return self._product(x, self._weight, self._bias, self._activation, [], self._algorithm)


Planned = Callable[[PackedLinear], Product]
"""What says how a product is to be called."""


class PackedPatchEmbed:
    """Latents (N, C, S, S) -> tokens (N, T, D), as one product."""

    def __init__(self, embed: PatchEmbed, planned: Planned) -> None:
        self._patch_size = int(embed.proj.stride[0])
        self._proj = planned(PackedLinear(embed.proj.weight.flatten(1), embed.proj.bias))

    def __call__(self, x: Tensor) -> Tensor:
        p = self._patch_size
        N, C, height, width = x.shape
        patches = x.view(N, C, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
        return self._proj(patches.reshape(N, -1, C * p * p))


class PackedBlock:
    """`apply_block` on packed products."""

    __slots__ = ("_fc1", "_fc2", "_heads", "_proj", "_qkv")

    def __init__(self, block: DiTBlock, planned: Planned) -> None:
        attn, mlp = block.attn, block.mlp
        self._qkv = planned(PackedLinear.of(attn.qkv))
        self._proj = planned(PackedLinear.of(attn.proj))
        self._fc1 = planned(PackedLinear.of(mlp.fc1, gelu=True))
        self._fc2 = planned(PackedLinear.of(mlp.fc2))
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
        independent: call products by a `RowPlan` where a row's bits depend on the other rows.
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
        independent: bool = False,
    ) -> None:
        self._independent = independent
        self._patch_size, self._grid_size = dit.patch_size, dit.grid_size
        self._pos_embed = dit.pos_embed.detach()
        self._row_plans: dict[tuple[int, int], RowPlan | None] = {}  # by the shape of the weight
        self._embed_patches = PackedPatchEmbed(dit.x_embedder, self._planned)
        pairs = RowPlan(GROUPED_PAIRS, GROUPED_PAIRS) if independent else AS_IT_IS
        embed = TabulatedEmbeddings(dit, timesteps, fractional)
        self.conditioning = _conditioning(dit, pairs, embed, kept=kept, consume=consume)
        self._blocks = [self._packed(block, consume=consume) for block in _blocks(dit)]
        self._linear = self._planned(PackedLinear.of(dit.final_layer.linear))
        if consume:
            for module in (dit.x_embedder, dit.t_embedder, dit.y_embedder, dit.final_layer):
                module.to("meta")

    @property
    def rows_are_independent(self) -> bool:
        """Whether it was asked for and a way was found."""
        return self._independent and None not in self._row_plans.values()

    def _planned(self, product: PackedLinear) -> Product:
        """The product, called so that rows are independent, if that was asked for and is possible."""
        if not self._independent:
            return product
        if product.shape not in self._row_plans:
            _, tokens, _ = self._pos_embed.shape
            self._row_plans[product.shape] = _row_plan(product.shape, tokens, self._pos_embed.dtype)
        plan = self._row_plans[product.shape]
        return product if plan is None else plan.applied_to(product)

    def _packed(self, block: DiTBlock, *, consume: bool) -> PackedBlock:
        packed = PackedBlock(block, self._planned)
        if consume:
            block.to("meta")
        return packed

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


def _row_plan(shape: tuple[int, int], tokens: int, dtype: torch.dtype) -> RowPlan | None:
    """How to call products whose weight has this shape, as measured here; None if nothing helps."""
    generator = torch.Generator().manual_seed(0)
    product = PackedLinear(torch.randn(shape, generator=generator).to(dtype), None)
    rows = torch.randn(max(PROBED_ROWS), tokens, shape[1], generator=generator).to(dtype)
    return first_independent(product, rows, plans(tokens))


def _blocks(dit: DiT) -> Iterable[DiTBlock]:
    return cast("Iterable[DiTBlock]", dit.blocks)


def _conditioning(
    dit: DiT, pairs: RowPlan, embed: TabulatedEmbeddings, *, kept: int, consume: bool
) -> Conditioning:
    hidden_size = dit.pos_embed.shape[-1]
    product = pairs.applied_to(PackedLinear(*joined_products(dit, consume=consume)))

    def vectors(c: Tensor) -> Tensor:
        # In fp64: fp32's exp differs in its last bit between the ends and the middle of a tensor.
        return modulation_vectors(product(F.silu(c.double()).to(c.dtype)), hidden_size)

    return Conditioning(embed, vectors, kept=kept)
