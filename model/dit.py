"""DiT: the Diffusion Transformer of Peebles & Xie 2023 (arXiv 2212.09748).

Parameter names and shapes are those of the official code (facebookresearch/DiT, models.py), so an
official checkpoint loads with ``strict=True``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT_CHANNELS = 4


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x * (1 + scale) + shift`` with one shift and scale (N, D) for the tokens (N, T, D)."""
    return torch.addcmul(shift.unsqueeze(1), x, 1 + scale.unsqueeze(1))


class TimestepEmbedder(nn.Module):
    """Timesteps (N,), whole or fractional, -> vectors (N, D).

    The frequencies fall from 1 to nearly 1 / max_period as in the official code. diffusers'
    DiTTransformer2DModel spreads them to exactly 1 / max_period (its downscale_freq_shift is 1),
    also for the official weights, which were not trained so; 1 here repeats it.
    """

    def __init__(
        self,
        hidden_size: int,
        frequency_embedding_size: int = 256,
        downscale_freq_shift: int = 0,
    ) -> None:
        super().__init__()
        self.frequency_embedding_size = frequency_embedding_size
        self.downscale_freq_shift = downscale_freq_shift
        self.mlp = nn.Sequential(
            nn.Linear(frequency_embedding_size, hidden_size),
            nn.SiLU(),
            nn.Linear(hidden_size, hidden_size),
        )

    @staticmethod
    def timestep_embedding(
        t: Tensor, dim: int, max_period: float = 10000.0, downscale_freq_shift: int = 0
    ) -> Tensor:
        """Sinusoids of Vaswani et al. 2017, cosines first: (N,) -> fp32 (N, dim)."""
        half = dim // 2
        places = torch.arange(half, dtype=torch.float32, device=t.device)
        exponents = places / (half - downscale_freq_shift)
        angles = t.float()[:, None] * torch.exp(-math.log(max_period) * exponents)  # (N, dim / 2)
        embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
        return F.pad(embedding, (0, dim % 2))

    def forward(self, t: Tensor) -> Tensor:
        sinusoids = self.timestep_embedding(
            t, self.frequency_embedding_size, downscale_freq_shift=self.downscale_freq_shift
        )
        return self.mlp(sinusoids.to(self.mlp[0].weight.dtype))


class LabelEmbedder(nn.Module):
    """Class labels (N,) -> vectors (N, D); the last row of the table is the null class."""

    def __init__(self, num_classes: int, hidden_size: int, dropout_prob: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.dropout_prob = dropout_prob
        self.embedding_table = nn.Embedding(num_classes + (dropout_prob > 0), hidden_size)

    def token_drop(self, labels: Tensor, force_drop_ids: Tensor | None = None) -> Tensor:
        """Replace labels by the null class: with dropout_prob, or where force_drop_ids is 1."""
        if force_drop_ids is None:
            dropped = torch.rand(labels.shape[0], device=labels.device) < self.dropout_prob
        else:
            dropped = force_drop_ids == 1
        return torch.where(dropped, self.num_classes, labels)

    def forward(self, labels: Tensor, force_drop_ids: Tensor | None = None) -> Tensor:
        if (self.training and self.dropout_prob > 0) or force_drop_ids is not None:
            labels = self.token_drop(labels, force_drop_ids)
        return self.embedding_table(labels)


class PatchEmbed(nn.Module):
    """Latents (N, C, H, W) -> tokens (N, T, D), one a patch, row by row."""

    def __init__(self, patch_size: int, in_channels: int, hidden_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, hidden_size, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


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
        return self.proj(mixed.transpose(1, 2).reshape(N, T, D))


class Mlp(nn.Module):
    """Linear, tanh-GELU, Linear."""

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, inner_size)
        self.fc2 = nn.Linear(inner_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class DiTBlock(nn.Module):
    """Transformer block with adaLN-Zero conditioning (section 3.2 of the paper)."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.transform(x, self.adaLN_modulation(c))

    def transform(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The block on tokens (N, T, D), given its six modulation vectors as (N, 6 D)."""
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(6, 1)
        attended = self.attn(modulate(self.norm1(x), shift_attn, scale_attn))
        x = torch.addcmul(x, gate_attn.unsqueeze(1), attended)
        transformed = self.mlp(modulate(self.norm2(x), shift_mlp, scale_mlp))
        return torch.addcmul(x, gate_mlp.unsqueeze(1), transformed)


class FinalLayer(nn.Module):
    """Tokens (N, T, D) -> patches (N, T, patch_size**2 * out_channels)."""

    def __init__(self, hidden_size: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(hidden_size, patch_size * patch_size * out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * hidden_size))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.transform(x, self.adaLN_modulation(c))

    def transform(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The layer, given its two modulation vectors as (N, 2 D)."""
        shift, scale = modulation.chunk(2, 1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class DiT(nn.Module):
    """Class-conditional diffusion transformer over latents (N, in_channels, S, S).

    ``forward`` gives the predicted noise and, with ``learn_sigma``, as many channels again that
    place the variance in its learned range (Nichol & Dhariwal 2021, equation 15).

    In eval mode the adaLN projections of all blocks and of the final layer are views into one
    matrix, so that inference takes them in one product before the first block.
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
        self.input_size = input_size
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.out_channels = 2 * in_channels if learn_sigma else in_channels
        self.num_heads = num_heads
        self.num_classes = num_classes
        self.learn_sigma = learn_sigma
        self.x_embedder = PatchEmbed(patch_size, in_channels, hidden_size)
        self.t_embedder = TimestepEmbedder(
            hidden_size, downscale_freq_shift=downscale_freq_shift
        )
        self.y_embedder = LabelEmbedder(num_classes, hidden_size, class_dropout_prob)
        tokens = (input_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, hidden_size), requires_grad=False)
        self.blocks = nn.ModuleList(
            DiTBlock(hidden_size, num_heads, mlp_ratio) for _ in range(depth)
        )
        self.final_layer = FinalLayer(hidden_size, patch_size, self.out_channels)
        self._modulation: tuple[Tensor, Tensor] | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module._share_modulation())
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
        nn.init.xavier_uniform_(patch.weight.view(patch.weight.shape[0], -1))
        assert patch.bias is not None, "this is a bug: the patch projection has a bias"
        nn.init.zeros_(patch.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        nn.init.normal_(self.t_embedder.mlp[0].weight, std=0.02)
        nn.init.normal_(self.t_embedder.mlp[2].weight, std=0.02)
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
        x = x.view(x.shape[0], side, side, p, p, c)
        return torch.einsum("nhwpqc->nchpwq", x).reshape(x.shape[0], c, side * p, side * p)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Latents (N, C, S, S), timesteps (N,), labels (N,) -> (N, out_channels, S, S).

        The network computes in its weights' dtype; the answer has the dtype of ``x``.
        """
        tokens = self.x_embedder(x.to(self.pos_embed.dtype)) + self.pos_embed  # (N, T, D)
        c = self.t_embedder(t) + self.y_embedder(y)  # (N, D)
        if self._modulation is None or torch.is_grad_enabled():
            for block in self.blocks:
                tokens = block(tokens, c)
            patches = self.final_layer(tokens, c)
        else:
            patches = self._forward_shared(tokens, F.linear(F.silu(c), *self._modulation))
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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DiT:
        super()._apply(fn, recurse)
        self._share_modulation()
        return self

    def _modulation_linears(self) -> list[nn.Linear]:
        layers = [*self.blocks, self.final_layer]
        return [layer.adaLN_modulation[1] for layer in layers]

    @torch.no_grad()
    def _share_modulation(self) -> None:
        """Make all adaLN parameters views into one weight and one bias, in eval mode only."""
        self._modulation = None
        linears = self._modulation_linears()
        if self.training or linears[0].weight.is_meta:
            return
        weight = torch.cat([linear.weight for linear in linears])
        bias = torch.cat([linear.bias for linear in linears])
        sizes = [linear.out_features for linear in linears]
        for linear, rows, values in zip(linears, weight.split(sizes), bias.split(sizes)):
            linear.weight.data, linear.bias.data = rows, values
        self._modulation = weight, bias

    def _forward_shared(self, tokens: Tensor, modulations: Tensor) -> Tensor:
        """All blocks and the final layer, given every modulation vector as one (N, M) tensor."""
        sizes = [linear.out_features for linear in self._modulation_linears()]
        *of_blocks, of_final = modulations.split(sizes, dim=1)
        for block, modulation in zip(self.blocks, of_blocks):
            tokens = block.transform(tokens, modulation)
        return self.final_layer.transform(tokens, of_final)


def sincos_pos_embed(dim: int, grid_size: int) -> Tensor:
    """Fixed 2-D position embedding (grid_size**2, dim): first half from columns, second from rows."""
    frequencies = 10000.0 ** -(np.arange(dim // 4, dtype=np.float64) / (dim / 4))
    angles = np.outer(np.arange(grid_size, dtype=np.float64), frequencies)  # (grid, dim / 4)
    line = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)  # (grid, dim / 2)
    columns, rows = np.tile(line, (grid_size, 1)), np.repeat(line, grid_size, axis=0)
    return torch.from_numpy(np.concatenate([columns, rows], axis=1)).float()


_WIDTHS = {"XL": (1152, 28, 16), "L": (1024, 24, 16), "B": (768, 12, 12), "S": (384, 12, 6)}


def _build(
    shape: tuple[int, int, int],
    patch_size: int,
    *,
    input_size: int = 32,
    in_channels: int = LATENT_CHANNELS,
    class_dropout_prob: float = 0.1,
    num_classes: int = 1000,
    learn_sigma: bool = True,
) -> DiT:
    hidden_size, depth, num_heads = shape
    return DiT(
        input_size=input_size,
        patch_size=patch_size,
        in_channels=in_channels,
        hidden_size=hidden_size,
        depth=depth,
        num_heads=num_heads,
        class_dropout_prob=class_dropout_prob,
        num_classes=num_classes,
        learn_sigma=learn_sigma,
    )


DiT_models: dict[str, Callable[..., DiT]] = {
    f"DiT-{name}/{patch_size}": partial(_build, shape, patch_size)
    for name, shape in _WIDTHS.items()
    for patch_size in (2, 4, 8)
}
