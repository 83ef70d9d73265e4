"""python -m bench.arms.random_model NAME FOLDER: a DiTPipeline folder with random weights, seed 0.

Speed does not depend on the weights' values, and official weights need a download.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

SD_WIDTHS = (128, 256, 512, 512)
SMALL_WIDTHS = (8, 8, 8, 8)
LEVELS = 4

MODELS = {
    "xl-256": ((32, 28, 16, 72, 1000), SD_WIDTHS),
    "xl-512": ((64, 28, 16, 72, 1000), SD_WIDTHS),
    "xl-256-tick": ((32, 28, 16, 72, 1000), SMALL_WIDTHS),
    "tiny": ((8, 2, 2, 32, 10), SMALL_WIDTHS),
}
"""(latent size, layers, heads, head width, classes), channels of the autoencoder's levels."""


def write_model(name: str, folder: Path) -> None:
    """Write transformer, autoencoder and scheduler, with bf16 weights."""
    (size, layers, heads, head_dim, classes), widths = MODELS[name]
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    transformer = DiTTransformer2DModel(
        sample_size=size,
        num_layers=layers,
        num_attention_heads=heads,
        attention_head_dim=head_dim,
        num_embeds_ada_norm=classes,
        in_channels=4,
        out_channels=8,
        patch_size=2,
    )
    first, *others = [block.norm1.emb for block in transformer.transformer_blocks]
    for embedders in others:  # all blocks share one, as in trained models
        embedders.load_state_dict(first.state_dict())
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * LEVELS,
        up_block_types=("UpDecoderBlock2D",) * LEVELS,
        block_out_channels=widths,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=min(32, *widths),
        sample_size=8 * size,
        scaling_factor=0.18215,
    )
    scheduler = DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False
    )
    DiTPipeline(transformer, vae, scheduler).save_pretrained(folder)


if __name__ == "__main__":
    write_model(sys.argv[1], Path(sys.argv[2]))
