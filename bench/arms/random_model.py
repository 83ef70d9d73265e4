"""python -m bench.arms.random_model NAME FOLDER: a DiTPipeline folder with random weights, seed 0.

Speed does not depend on the weights' values, and official weights need a download.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

SD_WIDTHS = (128, 256, 512, 512)
SMALL_WIDTHS = (8, 8, 8, 8)


@dataclass(frozen=True, slots=True)
class Shape:
    """``vae_widths``: channels of the autoencoder's levels."""

    sample_size: int
    layers: int
    heads: int
    head_dim: int
    classes: int
    vae_widths: tuple[int, int, int, int]


SHAPES = {
    "xl-256": Shape(32, 28, 16, 72, 1000, SD_WIDTHS),
    "xl-512": Shape(64, 28, 16, 72, 1000, SD_WIDTHS),
    "xl-256-tick": Shape(32, 28, 16, 72, 1000, SMALL_WIDTHS),
    "tiny": Shape(8, 2, 2, 32, 10, SMALL_WIDTHS),
}


def write_model(shape: Shape, folder: Path) -> None:
    """Write transformer, autoencoder and scheduler, with bf16 weights."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    pipeline = DiTPipeline(_transformer(shape), _autoencoder(shape), _scheduler())
    pipeline.save_pretrained(folder)


def _transformer(shape: Shape) -> DiTTransformer2DModel:
    """All blocks share their embedders' weights, as in trained models."""
    transformer = DiTTransformer2DModel(
        sample_size=shape.sample_size,
        num_layers=shape.layers,
        num_attention_heads=shape.heads,
        attention_head_dim=shape.head_dim,
        num_embeds_ada_norm=shape.classes,
        in_channels=4,
        out_channels=8,
        patch_size=2,
    )
    first, *others = [block.norm1.emb for block in transformer.transformer_blocks]
    for embedders in others:
        embedders.load_state_dict(first.state_dict())
    return transformer


def _autoencoder(shape: Shape) -> AutoencoderKL:
    levels = len(shape.vae_widths)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=shape.vae_widths,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=min(32, *shape.vae_widths),
        sample_size=8 * shape.sample_size,
        scaling_factor=0.18215,
    )


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)


if __name__ == "__main__":
    write_model(SHAPES[sys.argv[1]], Path(sys.argv[2]))
