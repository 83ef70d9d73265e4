"""Small checkpoints, written in every layout that `load_checkpoint` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from model.networks.dit import DiT
from model.weights.diffusers_names import to_diffusers

CLASS_NAMES = ("apple, Malus", "pear", "plum, damson plum", "quince", "fig")
STEM = "diffusion_pytorch_model"


def small_dit(
    *,
    num_classes: int = len(CLASS_NAMES),
    input_size: int = 4,
    patch_size: int = 2,
    in_channels: int = 4,
    hidden_size: int = 128,
    depth: int = 2,
    num_heads: int = 2,
    learn_sigma: bool = True,
    downscale_freq_shift: int = 0,
    seed: int = 0,
) -> DiT:
    """A DiT in eval mode. All weights are random, so that its output is not zero."""
    dit = DiT(
        input_size=input_size,
        patch_size=patch_size,
        in_channels=in_channels,
        hidden_size=hidden_size,
        depth=depth,
        num_heads=num_heads,
        num_classes=num_classes,
        learn_sigma=learn_sigma,
        downscale_freq_shift=downscale_freq_shift,
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in dit.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.05, generator=generator)
    return dit.requires_grad_(False)


def small_vae(
    *, latent_channels: int = 4, scaling_factor: float = 0.5, seed: int = 0
) -> AutoencoderKL:
    """An untrained AutoencoderKL with attention; one latent is 2 x 2 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            latent_channels=latent_channels,
            norm_num_groups=4,
            sample_size=8,
            scaling_factor=scaling_factor,
        ).eval()


def write_pipeline(
    folder: Path,
    dit: DiT | None = None,
    vae: AutoencoderKL | None = None,
    *,
    class_names: tuple[str, ...] | None = CLASS_NAMES,
    kind: str = "safetensors",
    shards: int = 1,
    variant: str = "",
) -> Path:
    """Write a DiTPipeline folder; ``kind`` is "safetensors" or "bin", ``variant`` "" or "fp16"."""
    dit = small_dit() if dit is None else dit
    index: dict[str, object] = {
        "_class_name": "DiTPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if class_names is not None:
        index["id2label"] = {str(i): name for i, name in enumerate(class_names)}
    write_json(folder / "model_index.json", index)
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler_config())
    write_json(folder / "transformer" / "config.json", transformer_config(dit))
    state = to_diffusers(dit.state_dict())
    write_weights(folder / "transformer", state, kind=kind, shards=shards, variant=variant)
    write_vae(folder / "vae", vae, kind=kind)
    return folder


def scheduler_config() -> dict[str, object]:
    return {
        "_class_name": "DDIMScheduler",
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "trained_betas": None,
    }


def transformer_config(dit: DiT) -> dict[str, object]:
    """The config of a DiTTransformer2DModel, with downscale_freq_shift if it is not 0."""
    hidden_size = dit.pos_embed.shape[-1]
    config: dict[str, object] = {
        "_class_name": "DiTTransformer2DModel",
        "activation_fn": "gelu-approximate",
        "attention_head_dim": hidden_size // dit.num_heads,
        "in_channels": dit.in_channels,
        "norm_eps": 1e-6,
        "norm_type": "ada_norm_zero",
        "num_attention_heads": dit.num_heads,
        "num_embeds_ada_norm": dit.num_classes,
        "num_layers": len(dit.blocks),
        "out_channels": dit.out_channels,
        "patch_size": dit.patch_size,
        "sample_size": dit.input_size,
    }
    if dit.t_embedder.downscale_freq_shift:
        config["downscale_freq_shift"] = dit.t_embedder.downscale_freq_shift
    return config


def write_vae(folder: Path, vae: AutoencoderKL | None = None, *, kind: str = "safetensors") -> Path:
    vae = small_vae() if vae is None else vae
    fields = {key: value for key, value in vae.config.items() if not key.startswith("_")}
    write_json(folder / "config.json", {"_class_name": type(vae).__name__, **fields})
    write_weights(folder, vae.state_dict(), kind=kind)
    return folder


def write_weights(
    folder: Path,
    state: Mapping[str, Tensor],
    *,
    kind: str = "safetensors",
    shards: int = 1,
    variant: str = "",
) -> None:
    """Write the weights of a diffusers model folder: one file, or shards and an index."""
    infix = f".{variant}" if variant else ""
    if variant:
        state = {name: tensor.half() for name, tensor in state.items()}
    if shards == 1:
        write_tensors(folder / f"{STEM}{infix}.{kind}", state)
        return
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"{STEM}-{shard + 1:05}-of-{shards:05}.{kind}"
        tensors = {name: state[name] for name in list(state)[shard::shards]}
        write_tensors(folder / file, tensors)
        weight_map |= dict.fromkeys(tensors, file)
    write_json(folder / f"{STEM}.{kind}.index.json", {"metadata": {}, "weight_map": weight_map})


def write_tensors(path: Path, state: Mapping[str, Tensor]) -> Path:
    """Write tensors to one file: safetensors if the suffix says so, else a torch.save pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    if path.suffix == ".safetensors":
        save_file(plain, path)
    else:
        torch.save(plain, path)
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def edit_json(path: Path, **changes: object) -> Path:
    """Change some fields of the JSON object in a file."""
    return write_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)
