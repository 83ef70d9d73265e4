"""DiT: the Diffusion Transformer of Peebles & Xie 2023 (arXiv 2212.09748).

Parameter names and shapes are those of the official code (facebookresearch/DiT, models.py), so an
official checkpoint loads with ``strict=True``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypedDict, cast

import torch
from torch import Tensor, nn

from model.networks.blocks import DiTBlock, FinalLayer, Modulation, unpatchify
from model.networks.embedders import LabelEmbedder, PatchEmbed, TimestepEmbedder, sincos_pos_embed

LATENT_CHANNELS = 4


class DiT(nn.Module):
    """Class-conditional diffusion transformer over latents (N, in_channels, S, S).

    ``forward`` predicts the noise and, with ``learn_sigma``, as many channels again that interpolate
    the log variance between its bounds (Nichol & Dhariwal 2021, equation 15).

    Raises:
        ValueError: ``patch_size`` does not divide the input size, or ``num_heads`` the width.
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
        tokens = self.grid_size**2
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, hidden_size), requires_grad=False)
        self.blocks = nn.ModuleList(
            DiTBlock(hidden_size, num_heads, mlp_ratio) for _ in range(depth)
        )
        self.final_layer = FinalLayer(hidden_size, patch_size, self.out_channels)
        self.initialize_weights()

    def initialize_weights(self) -> None:
        """Initialise as the paper does; the untrained network answers exactly zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self.pos_embed.data.copy_(sincos_pos_embed(self.pos_embed.shape[-1], self.grid_size))
        patch = self.x_embedder.proj
        assert patch.bias is not None, "this is a bug: the patch projection has no bias"
        nn.init.xavier_uniform_(patch.weight.view(patch.weight.shape[0], -1))
        nn.init.zeros_(patch.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for parameter in self.t_embedder.mlp.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        for linear in [*(each.linear for each in self.modulations), self.final_layer.linear]:
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    @property
    def grid_size(self) -> int:
        """Patches along a side."""
        return self.input_size // self.patch_size

    @property
    def null_class(self) -> int | None:
        """The label that means "no class", or None if the table has no row for it."""
        has_null = self.y_embedder.embedding_table.num_embeddings > self.num_classes
        return self.num_classes if has_null else None

    @property
    def modulations(self) -> list[Modulation]:
        """The adaLN layers: those of the blocks in order, then that of the final layer."""
        layers = cast("list[DiTBlock | FinalLayer]", [*self.blocks, self.final_layer])
        return [layer.adaLN_modulation for layer in layers]

    def patchify(self, x: Tensor) -> Tensor:
        """Latents (N, C, S, S) -> tokens with their positions (N, T, D), in the weights' dtype."""
        tokens: Tensor = self.x_embedder(x.to(self.pos_embed.dtype)) + self.pos_embed
        return tokens

    def unpatchify(self, x: Tensor) -> Tensor:
        """Patches (N, T, p * p * C) -> latents (N, C, S, S)."""
        return unpatchify(x, self.patch_size, self.grid_size)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Latents (N, C, S, S), timesteps (N,), labels (N,) -> (N, out_channels, S, S).

        The network computes in its weights' dtype; the answer has the dtype of ``x``.
        """
        tokens = self.patchify(x)  # (N, T, D)
        c = self.t_embedder(t) + self.y_embedder(y)  # (N, D)
        for block in self.blocks:
            tokens = block(tokens, c)
        return self.unpatchify(self.final_layer(tokens, c)).to(x.dtype)

    def forward_with_cfg(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor,
        cfg_scale: float | Tensor,
        cfg_channels: int | None = None,
    ) -> Tensor:
        """Classifier-free guidance (Ho & Salimans 2022, equation 6), called like the official code.

        ``x``, ``t`` and ``y`` hold 2 N rows: the N images under their classes, then the same
        images under the null class; the latents of the second half are not read. ``cfg_scale``
        is one number or an (N,) tensor. Guidance applies to the first ``cfg_channels`` channels
        of the noise: all ``in_channels`` by default, 3 to reproduce the official samples.
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


class Configuration(TypedDict):
    """The arguments of `DiT` in which the paper's configurations differ."""

    hidden_size: int
    depth: int
    num_heads: int
    patch_size: int


WIDTHS = {"XL": (1152, 28, 16), "L": (1024, 24, 16), "B": (768, 12, 12), "S": (384, 12, 6)}
"""hidden_size, depth and num_heads by the paper's letter (table 1)."""

CONFIGURATIONS: dict[str, Configuration] = {
    f"DiT-{name}/{patch_size}": Configuration(
        hidden_size=hidden_size, depth=depth, num_heads=num_heads, patch_size=patch_size
    )
    for name, (hidden_size, depth, num_heads) in WIDTHS.items()
    for patch_size in (2, 4, 8)
}

DiT_models: dict[str, Callable[..., DiT]] = {
    name: partial(DiT, **configuration) for name, configuration in CONFIGURATIONS.items()
}
