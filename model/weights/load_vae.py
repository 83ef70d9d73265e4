"""Load an autoencoder from a folder in diffusers' layout."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from model.device import cpu_multiplies_bfloat16
from model.networks.vae import Vae
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError, reason
from model.weights.files import Weights, fill

_CLASSES: dict[str, type[AutoencoderKL | AutoencoderTiny]] = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
}
_OLD_ATTENTION = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}
"""What AutoencoderKL's attention was called before diffusers 0.15, as in sd-vae-ft-mse."""


def default_vae_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """bf16 where the transformer is in it and the device has products for it, else fp32.

    Never fp16, in which the decoder of Stable Diffusion overflows.
    """
    able = device.type == "cuda" or (device.type == "cpu" and cpu_multiplies_bfloat16())
    return torch.bfloat16 if able and dtype != torch.float32 else torch.float32


def load_vae(folder: Path, *, device: torch.device, dtype: torch.dtype) -> Vae:
    """Load a diffusers autoencoder folder: config.json and weights.

    Raises:
        CheckpointError: a file is missing or broken, or the autoencoder is of another kind.
    """
    config = JsonFile.read(folder / "config.json")
    weights = Weights.in_folder(folder)
    latent_channels = config.integer("latent_channels", 4)
    for key in ("latents_mean", "latents_std"):
        config.demand(key, None)
    module = _build(config)
    factor = _downscale_factor(module, latent_channels, config)
    state = {_renamed(name): tensor for name, tensor in weights.read().items()}
    fill(module, state, weights.place, device=device, dtype=dtype)
    module.to(memory_format=torch.channels_last)
    return Vae(
        module=module,
        latent_channels=latent_channels,
        downscale_factor=factor,
        scaling_factor=_scaling_factor(module, config),
        shift_factor=config.number("shift_factor", 0.0),
    )


def _build(config: JsonFile) -> AutoencoderKL | AutoencoderTiny:
    """The module in eval mode on the meta device."""
    name = config.text("_class_name", "AutoencoderKL")
    if name not in _CLASSES:
        raise config.wrong("_class_name", f"must be one of {', '.join(_CLASSES)}")
    # Null is absent here, and _use_default_values would have from_config ignore what is written.
    fields = {
        key: value
        for key, value in config.fields.items()
        if value is not None and not key.startswith("_")
    }
    try:
        with torch.device("meta"), _without_warnings():
            return _CLASSES[name].from_config(fields).eval()
    except Exception as error:  # whatever a value of the wrong kind makes diffusers raise
        raise CheckpointError(config.path, f"makes no {name}: {reason(error)}") from error


def _downscale_factor(
    module: AutoencoderKL | AutoencoderTiny, latent_channels: int, config: JsonFile
) -> int:
    """Pixels per latent, seen by decoding a shape."""
    side = 2
    z = torch.zeros(1, latent_channels, side, side, device="meta")
    try:
        channels, height = module.decode(z, return_dict=False)[0].shape[1:3]
    except Exception as error:  # as above
        raise CheckpointError(config.path, f"decodes nothing: {reason(error)}") from error
    if channels != 3 or height % side:
        raise CheckpointError(config.path, f"decodes to {channels} channels, must be 3")
    return int(height // side)


def _scaling_factor(module: AutoencoderKL | AutoencoderTiny, config: JsonFile) -> float:
    if config.fields.get("scaling_factor") is None:
        return float(module.config.scaling_factor)
    scaling_factor = config.number("scaling_factor", 1.0)
    if scaling_factor <= 0:
        raise config.wrong("scaling_factor", "must be above 0")
    return scaling_factor


def _renamed(name: str) -> str:
    for old, new in _OLD_ATTENTION.items():
        name = name.replace(old, new)
    return name


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence diffusers' log about config keys that its newer classes no longer take."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
