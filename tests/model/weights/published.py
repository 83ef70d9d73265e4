"""The layout of facebook/DiT-XL-2-256 as it is published: pickles, old class and layer names."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from model.networks.dit import DiT
from model.weights.diffusers_names import to_diffusers
from tests.support.checkpoints import (
    STEM,
    edit_json,
    small_dit,
    transformer_config,
    write_json,
    write_pipeline,
    write_tensors,
)

NAME = "facebook/DiT-XL-2-256"
WEIGHTS = tuple(f"{part}/{STEM}.bin" for part in ("transformer", "vae"))

OLD_NAMES = {
    ".to_q.": ".query.",
    ".to_k.": ".key.",
    ".to_v.": ".value.",
    ".to_out.0.": ".proj_attn.",
}
"""The names that AutoencoderKL's attention layers had before diffusers 0.15, by those of today."""


def write_published(folder: Path, dit: DiT, vae: AutoencoderKL) -> Path:
    """Write a repository's files with the weights of these two, in their own dtypes."""
    write_pipeline(folder, small_dit(), vae, class_names=None, kind="bin")
    labels = {str(label): f"class {label}, number {label}" for label in range(dit.num_classes)}
    edit_json(
        folder / "model_index.json",
        transformer=["diffusers", "Transformer2DModel"],
        id2label=labels,
        _diffusers_version="0.12.0.dev0",
    )
    config = transformer_config(dit) | {
        "_class_name": "Transformer2DModel",
        "_diffusers_version": "0.12.0.dev0",
        "attention_bias": True,
        "cross_attention_dim": None,
        "norm_elementwise_affine": False,
        "num_vector_embeds": None,
    }
    write_json(folder / "transformer" / "config.json", config)
    write_tensors(folder / WEIGHTS[0], to_diffusers(dit.state_dict()))
    state = {_old_name(name): tensor for name, tensor in vae.state_dict().items()}
    write_tensors(folder / WEIGHTS[1], state)
    return folder


def xl_dit() -> DiT:
    """DiT-XL/2 for 256 pixels with random fp32 weights."""
    with torch.device("meta"):
        dit = DiT(input_size=32, hidden_size=1152, depth=28, num_heads=16, num_classes=1000)
    dit.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in dit.state_dict().values():
        tensor.normal_(std=0.02, generator=generator)
    return dit.requires_grad_(False)


def sd_vae() -> AutoencoderKL:
    """Stable Diffusion's autoencoder with random fp32 weights."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=256,
        scaling_factor=0.18215,
    ).eval()


def _old_name(name: str) -> str:
    for new, old in OLD_NAMES.items():
        name = name.replace(new, old)
    return name
