"""Loading an autoencoder from a folder in diffusers' layout."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from model.device import cpu_multiplies_bfloat16
from model.networks.lean_resnet import make_lean
from model.networks.vae import Vae, memory_format_on
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError, first_line
from model.weights.weight_files import WeightFiles, load_state

_AUTOENCODERS: dict[str, type[AutoencoderKL | AutoencoderTiny]] = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
}
_LEGACY_NAMES = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}
"""AutoencoderKL's attention layers before diffusers 0.15, as in sd-vae-ft-mse -> their names now."""


_UNUSED = ("encoder", "quant_conv")
"""The parts of an autoencoder that decoding does not need; they are not loaded."""

_SMALLEST_FACTOR = 1e-6


def default_vae_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The autoencoder's dtype for a transformer in ``dtype``.

    bfloat16 if the transformer runs in half precision and the device multiplies bfloat16, else
    float32. Never float16: Stable Diffusion's decoder overflows in it.
    """
    fast = device.type == "cuda" or (device.type == "cpu" and cpu_multiplies_bfloat16())
    return torch.bfloat16 if fast and dtype != torch.float32 else torch.float32


def load_vae(
    config: JsonFile, weights: WeightFiles, *, device: torch.device, dtype: torch.dtype
) -> Vae:
    """Load an AutoencoderKL or AutoencoderTiny from its config.json and weights.

    Raises:
        CheckpointError: a file is missing or broken, or the autoencoder is not supported.
    """
    latent_channels = config.integer("latent_channels", 4)
    for key in ("latents_mean", "latents_std"):
        config.require(key, None)
    module = _build_module(config)
    factor = _downscale_factor(module, latent_channels, config)
    state = _decoder_state(weights.tensors())
    load_state(module, state, weights, device=device, dtype=dtype)
    module.to(memory_format=memory_format_on(device))
    make_lean(module)
    return Vae(
        module=module,
        latent_channels=latent_channels,
        downscale_factor=factor,
        scaling_factor=_scaling_factor(module, config),
        shift_factor=config.number("shift_factor", 0.0),
    )


def _build_module(config: JsonFile) -> AutoencoderKL | AutoencoderTiny:
    """A module that can decode, in eval mode on the meta device."""
    name = config.string("_class_name", "AutoencoderKL")
    if name not in _AUTOENCODERS:
        raise config.error("_class_name", f"must be one of {', '.join(_AUTOENCODERS)}")
    # Null means absent here, but not to from_config, and _use_default_values would override fields.
    fields = {
        key: value
        for key, value in config.fields.items()
        if value is not None and not key.startswith("_")
    }
    try:
        with torch.device("meta"), _quiet_diffusers():
            module = _AUTOENCODERS[name].from_config(fields).eval()
    except Exception as error:  # diffusers raises many types for a value of the wrong type
        problem = f"does not describe a valid {name}: {first_line(error)}"
        raise CheckpointError(config.path, problem) from error
    for part in _UNUSED:
        setattr(module, part, None)
    return module


def _downscale_factor(
    module: AutoencoderKL | AutoencoderTiny, latent_channels: int, config: JsonFile
) -> int:
    """Pixels per latent along a side, found by decoding on the meta device."""
    side = 2
    z = torch.zeros(1, latent_channels, side, side, device="meta")
    try:
        channels, height = module.decode(z, return_dict=False)[0].shape[1:3]
    except Exception as error:  # as above
        problem = f"describes an autoencoder that cannot decode: {first_line(error)}"
        raise CheckpointError(config.path, problem) from error
    if channels != 3 or height % side:
        problem = (
            f"decodes {side} latents to {height} pixels of {channels} channels,"
            f" but must decode to a multiple of {side} pixels of 3 channels"
        )
        raise CheckpointError(config.path, problem)
    return int(height // side)


def _decoder_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that decoding needs, under their names and in their shapes of today."""
    kept = {_current_name(name): tensor for name, tensor in state.items()}
    return {
        name: _as_linear(name, tensor)
        for name, tensor in kept.items()
        if name.partition(".")[0] not in _UNUSED
    }


def _as_linear(name: str, tensor: Tensor) -> Tensor:
    """Attention was once made of 1x1 convolutions."""
    attends = any(part in name for part in _LEGACY_NAMES.values())
    return tensor[:, :, 0, 0] if attends and tensor.shape[2:] == (1, 1) else tensor


def _scaling_factor(module: AutoencoderKL | AutoencoderTiny, config: JsonFile) -> float:
    if config.fields.get("scaling_factor") is None:
        return float(module.config.scaling_factor)
    scaling_factor = config.number("scaling_factor", 1.0)
    if scaling_factor <= 0:
        raise config.error("scaling_factor", "must be above 0")
    if not _SMALLEST_FACTOR <= scaling_factor <= 1 / _SMALLEST_FACTOR:
        allowed = f"from {_SMALLEST_FACTOR:g} to {1 / _SMALLEST_FACTOR:g}"
        raise config.error("scaling_factor", f"must be {allowed}")
    return scaling_factor


def _current_name(name: str) -> str:
    for old, new in _LEGACY_NAMES.items():
        name = name.replace(old, new)
    return name


@contextmanager
def _quiet_diffusers() -> Iterator[None]:
    """Silence diffusers' warnings about config keys that it no longer supports."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
