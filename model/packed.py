"""Packed: a DiT made ready for sampling, its products in oneDNN's own order on a CPU.

A plain linear layer reorders its weight for the CPU's kernels at every call, which at a few rows
takes as long as the product. Packed once, the same products take 0.4 to 0.7 of the time, the GELU
is part of the product before it, and every row comes out the same, bit by bit, whatever the rows
beside it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from model.dit import DiT, DiTBlock
from model.embedders import PatchEmbed, TimestepEmbedder

ROWS_HINT = 64
"""Rows of the products that the weights' order is chosen for; it made no difference from 1 to 512."""


class PackedLinear(nn.Module):
    """A linear layer in oneDNN's order, for inference alone; ``gelu`` adds the tanh GELU."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS_HINT)
        self._bias = None if bias is None else bias.detach().clone()
        self._activation, self._algorithm = ("gelu", "tanh") if gelu else ("none", "")

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, self._activation, [], self._algorithm
        )
        return product


class PackedMlp(nn.Module):
    """Linear with tanh-GELU, Linear."""

    def __init__(self, fc1: nn.Linear, fc2: nn.Linear) -> None:
        super().__init__()
        self.fc1 = PackedLinear(fc1.weight, fc1.bias, gelu=True)
        self.fc2 = PackedLinear(fc2.weight, fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        transformed: Tensor = self.fc2(self.fc1(x))
        return transformed


class PackedPatchEmbed(nn.Module):
    """Latents (N, C, S, S) -> tokens (N, T, D), as one product."""

    def __init__(self, embed: PatchEmbed) -> None:
        super().__init__()
        self.patch_size = int(embed.proj.stride[0])
        self.proj = PackedLinear(embed.proj.weight.flatten(1), embed.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        p = self.patch_size
        N, C, height, width = x.shape
        patches = x.view(N, C, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
        tokens: Tensor = self.proj(patches.reshape(N, -1, C * p * p))
        return tokens


class TabulatedTimesteps(nn.Module):
    """The vectors of every timestep 0 .. count - 1, computed once: whole (N,) -> (N, D)."""

    table: Tensor

    @torch.no_grad()
    def __init__(self, embedder: TimestepEmbedder, count: int) -> None:
        super().__init__()
        device = next(embedder.parameters()).device
        timesteps = torch.arange(count, dtype=torch.float32, device=device)
        self.register_buffer("table", embedder(timesteps))

    def forward(self, t: Tensor) -> Tensor:
        return self.table.index_select(0, t.long())


@torch.no_grad()
def prepare_for_sampling(dit: DiT, num_train_timesteps: int) -> None:
    """Change ``dit`` in place, for good, into the form that samples fastest on its device.

    Its timesteps must be whole from then on, and its weights are no longer there to be read, moved
    or trained. Doing it again changes nothing.
    """
    if isinstance(dit.t_embedder, TabulatedTimesteps):
        return
    dit.t_embedder = TabulatedTimesteps(dit.t_embedder, num_train_timesteps)  # type: ignore[assignment]
    if _packable(dit):
        _pack(dit)


def rows_are_independent(dit: DiT) -> bool:
    """Whether a prepared network gives a row the same bits whatever the rows beside it."""
    return isinstance(dit.x_embedder, PackedPatchEmbed)


def _packable(dit: DiT) -> bool:
    """Whether oneDNN has these products on this device and in this dtype."""
    weights = dit.pos_embed
    if weights.device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    if weights.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weights.dtype == torch.float32


def _pack(dit: DiT) -> None:
    """Replace the layers one by one, so that each weight is there twice for a moment only."""
    dit.x_embedder = PackedPatchEmbed(dit.x_embedder)  # type: ignore[assignment]
    dit.replace_modulations(PackedLinear)
    for block in cast("list[DiTBlock]", list(dit.blocks)):
        attn = block.attn
        attn.qkv = _packed(attn.qkv)
        attn.proj = _packed(attn.proj)
        block.mlp = PackedMlp(block.mlp.fc1, block.mlp.fc2)  # type: ignore[assignment]
    dit.final_layer.linear = _packed(dit.final_layer.linear)


def _packed(linear: nn.Linear) -> nn.Linear:
    """The packed layer, called a linear one: it takes that one's place."""
    return cast(nn.Linear, PackedLinear(linear.weight, linear.bias))
