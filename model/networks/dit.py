"""DiT: the Diffusion Transformer of Peebles & Xie 2023 (arXiv 2212.09748).

Parameter names and shapes are those of the official code (facebookresearch/DiT, models.py), so an
official checkpoint loads with ``strict=True``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.networks.embedders import LabelEmbedder, PatchEmbed, TimestepEmbedder, sincos_pos_embed

__all__ = [
    "LATENT_CHANNELS",
    "Attention",
    "DiT",
    "DiTBlock",
    "DiT_models",
    "FinalLayer",
    "LabelEmbedder",
    "Mlp",
    "Modulation",
    "PatchEmbed",
    "TimestepEmbedder",
    "sincos_pos_embed",
]

LATENT_CHANNELS = 4


def modulation_vectors(product: Tensor, hidden_size: int) -> Tensor:
    """adaLN's product (N, V D) -> its vectors (N, V, 1, D): shift, 1 + scale, gate, and so on in turn.

    The scales stand at 1, 4, 7, ... in a block (shift, scale, gate, twice), in the final layer
    (shift, scale) and in all of them side by side. The product itself is changed.
    """
    vectors = product.view(len(product), -1, 1, hidden_size)
    vectors[:, 1::3] += 1
    return vectors


def split_modulation(product: Tensor, hidden_size: int) -> Sequence[Tensor]:
    """`modulation_vectors`, one by one, each (N, 1, D)."""
    return modulation_vectors(product, hidden_size).unbind(1)


class Modulation(nn.Sequential):
    """SiLU and Linear: conditioning (N, D) -> several modulation vectors side by side."""

    def __init__(self, hidden_size: int, vectors: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(hidden_size, vectors * hidden_size))

    @property
    def linear(self) -> nn.Linear:
        return cast(nn.Linear, self[1])


class Attention(nn.Module):
    """Multi-head self-attention over tokens (N, T, D)."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        N, T, D = x.shape
        qkv = self.qkv(x).view(N, T, 3, self.num_heads, D // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, T, head_dim) each
        mixed = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(N, T, D))
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
    """Transformer block with adaLN-Zero conditioning (section 3.2 of the paper)."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio))
        self.adaLN_modulation = Modulation(hidden_size, 6)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.transform(x, split_modulation(self.adaLN_modulation(c), x.shape[-1]))

    def transform(self, x: Tensor, modulation: Sequence[Tensor]) -> Tensor:
        """The block on tokens (N, T, D), given its six modulation vectors, scales with 1 added."""
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation
        attended = self.attn(torch.addcmul(shift_attn, self.norm1(x), scale_attn))
        x = torch.addcmul(x, gate_attn, attended)
        transformed = self.mlp(torch.addcmul(shift_mlp, self.norm2(x), scale_mlp))
        return torch.addcmul(x, gate_mlp, transformed)


class FinalLayer(nn.Module):
    """Tokens (N, T, D) -> patches (N, T, patch_size**2 * out_channels)."""

    def __init__(self, hidden_size: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(hidden_size, patch_size * patch_size * out_channels)
        self.adaLN_modulation = Modulation(hidden_size, 2)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.transform(x, split_modulation(self.adaLN_modulation(c), x.shape[-1]))

    def transform(self, x: Tensor, modulation: Sequence[Tensor]) -> Tensor:
        """The layer, given its two modulation vectors, the scale with 1 added."""
        shift, scale = modulation
        patches: Tensor = self.linear(torch.addcmul(shift, self.norm_final(x), scale))
        return patches


class DiT(nn.Module):
    """Class-conditional diffusion transformer over latents (N, in_channels, S, S).

    ``forward`` gives the predicted noise and, with ``learn_sigma``, as many channels again that
    place the variance in its learned range (Nichol & Dhariwal 2021, equation 15).

    In eval mode the adaLN parameters of all blocks and of the final layer are views into one
    matrix, so that inference takes them in one product before the first block. Change parameters
    in place (or by load_state_dict) there: a parameter whose ``.data`` is replaced leaves the matrix.

    Where ``stand_in`` is set, it answers in place of `forward`, and the weights may be gone.

    Raises:
        ValueError: sizes that do not divide: the image into patches, the width into heads.
    """

    def __init__(
        self,
        *,
        input_size: int = 32,
        patch_size: int = 2,
        in_channels: int = LATENT_CHANNELS,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        class_dropout_prob: float = 0.1,
        num_classes: int = 1000,
        learn_sigma: bool = True,
        downscale_freq_shift: int = 0,
    ) -> None:
        super().__init__()
        if input_size % patch_size:
            raise ValueError(f"patch_size {patch_size} does not divide input_size {input_size}")
        if hidden_size % num_heads or hidden_size % 4:
            raise ValueError(f"num_heads {num_heads} or 4 does not divide {hidden_size=}")
        self.input_size = input_size
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.out_channels = 2 * in_channels if learn_sigma else in_channels
        self.num_heads = num_heads
        self.num_classes = num_classes
        self.learn_sigma = learn_sigma
        self.x_embedder = PatchEmbed(patch_size, in_channels, hidden_size)
        self.t_embedder = TimestepEmbedder(hidden_size, downscale_freq_shift=downscale_freq_shift)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size, class_dropout_prob)
        tokens = (input_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, hidden_size), requires_grad=False)
        self.blocks = nn.ModuleList(
            DiTBlock(hidden_size, num_heads, mlp_ratio) for _ in range(depth)
        )
        self.final_layer = FinalLayer(hidden_size, patch_size, self.out_channels)
        self._modulations: tuple[Tensor, Tensor] | None = None
        self.stand_in: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        self.register_load_state_dict_post_hook(_share_after_load)  # type: ignore[no-untyped-call]
        self.initialize_weights()

    def initialize_weights(self) -> None:
        """Initialise as the paper does: the untrained network's answer is exactly zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        grid_size = self.input_size // self.patch_size
        self.pos_embed.data.copy_(sincos_pos_embed(self.pos_embed.shape[-1], grid_size))
        patch = self.x_embedder.proj
        assert patch.bias is not None, "this is a bug: the patch projection has a bias"
        nn.init.xavier_uniform_(patch.weight.view(patch.weight.shape[0], -1))
        nn.init.zeros_(patch.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for parameter in self.t_embedder.mlp.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        for linear in [*self._modulation_linears(), self.final_layer.linear]:
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    @property
    def null_class(self) -> int | None:
        """The label that stands for «no class», or None where the table has no row for it."""
        has_null = self.y_embedder.embedding_table.num_embeddings > self.num_classes
        return self.num_classes if has_null else None

    def unpatchify(self, x: Tensor) -> Tensor:
        """Patches (N, T, p * p * C) -> latents (N, C, S, S)."""
        p, c, side = self.patch_size, self.out_channels, self.input_size // self.patch_size
        x = x.reshape(x.shape[0], side, side, p, p, c)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(x.shape[0], c, side * p, side * p)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Latents (N, C, S, S), timesteps (N,), labels (N,) -> (N, out_channels, S, S).

        The network computes in its weights' dtype; the answer has the dtype of ``x``.
        """
        if self.stand_in is not None:
            return self.stand_in(x, t, y)
        tokens = self.x_embedder(x.to(self.pos_embed.dtype)) + self.pos_embed  # (N, T, D)
        c = self.t_embedder(t) + self.y_embedder(y)  # (N, D)
        if self._modulations is not None and not torch.is_grad_enabled():
            patches = self._forward_shared(tokens, F.linear(F.silu(c), *self._modulations))
        else:
            for block in self.blocks:
                tokens = block(tokens, c)
            patches = self.final_layer(tokens, c)
        return self.unpatchify(patches).to(x.dtype)

    def forward_with_cfg(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor,
        cfg_scale: float | Tensor,
        cfg_channels: int | None = None,
    ) -> Tensor:
        """Classifier-free guidance (Ho & Salimans 2022, equation 6), called as the official code.

        ``x``, ``t`` and ``y`` hold 2 N rows: the N images under their classes, then the same
        images under the null class; the latents of the second half are not read. ``cfg_scale``
        is one number or an (N,) tensor. The first ``cfg_channels`` channels of the noise are
        guided: all ``in_channels`` by default, 3 to repeat the official samples.
        """
        images = x[: len(x) // 2]
        out = self.forward(torch.cat([images, images]), t, y)
        guided = self.in_channels if cfg_channels is None else cfg_channels
        eps, rest = out[:, :guided], out[:, guided:]
        conditional, unconditional = eps.chunk(2)
        if isinstance(cfg_scale, Tensor):
            cfg_scale = cfg_scale.to(eps.dtype).view(-1, 1, 1, 1)
        half = unconditional + cfg_scale * (conditional - unconditional)
        return torch.cat([torch.cat([half, half]), rest], dim=1)

    def train(self, mode: bool = True) -> DiT:
        super().train(mode)
        self._share_modulation()
        return self

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._share_modulation()  # a copy's parameters stand each for itself

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DiT:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._share_modulation()
        return self

    def _modulation_linears(self) -> list[nn.Linear]:
        return [layer.adaLN_modulation.linear for layer in self._conditioned_layers()]

    def _conditioned_layers(self) -> list[DiTBlock | FinalLayer]:
        return cast("list[DiTBlock | FinalLayer]", [*self.blocks, self.final_layer])

    @torch.no_grad()
    def _share_modulation(self) -> None:
        """Make all adaLN parameters views into one weight and one bias, in eval mode only."""
        self._modulations = None
        linears = self._modulation_linears()
        metas = [linear.weight.is_meta or linear.bias.is_meta for linear in linears]
        if self.training or any(metas):
            return
        weight = torch.cat([linear.weight for linear in linears])
        bias = torch.cat([linear.bias for linear in linears])
        sizes = [linear.out_features for linear in linears]
        for linear, rows, values in zip(
            linears, torch.split(weight, sizes), torch.split(bias, sizes)
        ):
            linear.weight.data, linear.bias.data = rows, values
        self._modulations = weight, bias

    def give_up_modulations(self) -> tuple[Tensor, Tensor]:
        """The one weight (M, D) and bias (M,) of all adaLN products, for good: the layers lose theirs."""
        assert self._modulations is not None, "this is a bug: not in eval mode, or given up before"
        modulations, self._modulations = self._modulations, None
        for layer in self._conditioned_layers():
            layer.adaLN_modulation.to("meta")
        return modulations

    def _forward_shared(self, tokens: Tensor, product: Tensor) -> Tensor:
        """All blocks and the final layer, given every modulation vector as one (N, M) tensor."""
        vectors = split_modulation(product, tokens.shape[-1])
        for i, block in enumerate(self.blocks):
            tokens = cast(DiTBlock, block).transform(tokens, vectors[6 * i : 6 * i + 6])
        return self.final_layer.transform(tokens, vectors[-2:])


def _share_after_load(module: DiT, _: object) -> None:
    module._share_modulation()


WIDTHS = {"XL": (1152, 28, 16), "L": (1024, 24, 16), "B": (768, 12, 12), "S": (384, 12, 6)}

DiT_models: dict[str, Callable[..., DiT]] = {
    f"DiT-{name}/{patch_size}": partial(
        DiT, hidden_size=hidden_size, depth=depth, num_heads=num_heads, patch_size=patch_size
    )
    for name, (hidden_size, depth, num_heads) in WIDTHS.items()
    for patch_size in (2, 4, 8)
}
