"""Vae decodes latents to the images that diffusers' autoencoders give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor, nn

from model.device import cpu_multiplies_bfloat16
from model.networks.vae import Vae, memory_format_on
from model.weights import load_vae as loading
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError
from model.weights.load_vae import default_vae_dtype, load_vae
from model.weights.weight_files import WeightFiles
from tests.support.checkpoints import STEM, edit_json, small_vae, write_tensors, write_vae

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def load(folder: Path, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> Vae:
    config = JsonFile.read(folder / "config.json")
    return load_vae(config, WeightFiles.in_folder(folder), device=device, dtype=dtype)


def random_latents(count: int = 3, channels: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, 5, 4, generator=generator)


@torch.no_grad()
def expected_levels(z: Tensor, vae: AutoencoderKL) -> Tensor:
    """Levels before rounding, as diffusers' pipelines compute them: (N, H, W, 3)."""
    x = vae.decode(z).sample
    levels: Tensor = ((x / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1)
    return levels


class Fixed(nn.Module):
    """An autoencoder that decodes everything to the same values."""

    dtype = torch.float32

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x

    def decode(self, z: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        assert not return_dict
        return (self.x,)


def fixed(x: Tensor) -> Vae:
    return Vae(Fixed(x), latent_channels=4, downscale_factor=1, scaling_factor=1, shift_factor=0)


def test_images_are_those_of_diffusers(tmp_path: Path) -> None:
    vae, latents = small_vae(scaling_factor=0.5), random_latents()
    images, finite = load(write_vae(tmp_path, vae)).decode(latents)
    expected = expected_levels(latents / 0.5, vae)
    assert images.dtype == torch.uint8
    assert images.shape == (3, 10, 8, 3)
    assert finite.tolist() == [True] * 3
    assert (images - expected).abs().max() < 0.51
    assert expected.std() > 5


def test_shift_factor_is_added_after_scaling(tmp_path: Path) -> None:
    vae, latents = small_vae(scaling_factor=2.0), random_latents()
    edit_json(write_vae(tmp_path, vae) / "config.json", shift_factor=0.75)
    found = load(tmp_path)
    assert (found.scaling_factor, found.shift_factor) == (2.0, 0.75)
    images, _ = found.decode(latents)
    assert (images - expected_levels(latents / 2.0 + 0.75, vae)).abs().max() < 0.51


def test_absent_factors_are_those_of_the_class(tmp_path: Path) -> None:
    edit_json(write_vae(tmp_path) / "config.json", scaling_factor=None, shift_factor=None)
    found = load(tmp_path)
    assert (found.scaling_factor, found.shift_factor) == (0.18215, 0.0)


def test_levels_are_clamped_and_rounded_half_to_even() -> None:
    x = torch.linspace(-1.5, 1.5, 3 * 4096 + 3).view(1, 3, 1, -1)
    images, finite = fixed(x).decode(torch.zeros(1, 4, 1, 1))
    levels = np.round(np.clip((x.numpy() / 2 + 0.5) * 255, 0, 255)).transpose(0, 2, 3, 1)
    assert (images.numpy() == levels).all()
    assert finite.all()
    halves = torch.tensor([126.5, 127.5, 128.5])
    x = (halves / 127.5 - 1).view(1, 3, 1, 1)
    assert ((x.flatten() / 2 + 0.5) * 255).tolist() == halves.tolist(), "halves to the last bit"
    assert fixed(x).decode(torch.zeros(1, 4, 1, 1))[0].flatten().tolist() == [126, 128, 128]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_image_that_is_not_finite_is_told_apart(value: float, tmp_path: Path) -> None:
    found, latents = load(write_vae(tmp_path)), random_latents()
    alone, _ = found.decode(latents)
    latents[1, 2, 3, 1] = value
    images, finite = found.decode(latents)
    assert finite.tolist() == [True, False, True]
    assert torch.equal(images[0::2], alone[0::2])


def test_one_value_that_is_not_finite_is_enough() -> None:
    x = torch.zeros(3, 3, 2, 2)
    x[0, 0, 0, 0], x[2, 2, 1, 1] = float("nan"), float("inf")
    images, finite = fixed(x).decode(torch.zeros(3, 4, 2, 2))
    assert finite.tolist() == [False, True, False]
    assert images[0, 0, 0].tolist() == [0, 128, 128]


def test_old_names_of_the_attention_are_understood(tmp_path: Path) -> None:
    write_vae(tmp_path)
    latents = random_latents()
    expected, _ = load(tmp_path).decode(latents)
    path = tmp_path / f"{STEM}.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(path)
    for new, name in old.items():
        state = {key.replace(f".{new}.", f".{name}."): state[key] for key in state}
    assert any(".proj_attn." in key for key in state)
    write_tensors(path, state)
    assert torch.equal(load(tmp_path).decode(latents)[0], expected)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_downscale_factor_is_that_of_the_decoder(levels: int, tmp_path: Path) -> None:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        latent_channels=3,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )
    found = load(write_vae(tmp_path, vae))
    assert found.downscale_factor == 2 ** (levels - 1)
    assert found.latent_channels == 3


def test_the_tiny_autoencoder_is_served_too(tmp_path: Path) -> None:
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()
    found, latents = load(write_vae(tmp_path, vae)), random_latents()
    images, _ = found.decode(latents)
    assert found.downscale_factor == 2
    assert (images - expected_levels(latents, vae)).abs().max() < 0.51


def test_half_precision_decodes_nearly_the_same(tmp_path: Path) -> None:
    write_vae(tmp_path)
    latents = random_latents()
    whole, _ = load(tmp_path).decode(latents)
    found = load(tmp_path, torch.bfloat16)
    halved, _ = found.decode(latents)
    assert found.module.dtype == torch.bfloat16
    assert (whole.int() - halved.int()).abs().max() <= 6


def test_latents_of_the_runner_may_be_in_half_precision(tmp_path: Path) -> None:
    found, latents = load(write_vae(tmp_path)), random_latents().bfloat16()
    assert torch.equal(found.decode(latents)[0], found.decode(latents.float())[0])


def test_the_decoder_is_frozen_in_eval_mode_and_channels_last(tmp_path: Path) -> None:
    module = load(write_vae(tmp_path)).module
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    weight = module.decoder.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_decoder_on_another_device_is_contiguous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load_state", lambda *_, **__: None)  # the weights stay on meta
    module = load(write_vae(tmp_path), torch.bfloat16, CUDA).module
    weights = [each for each in module.parameters() if each.dim() == 4]
    assert weights
    assert all(each.is_contiguous() for each in weights)


class Recorder(nn.Module):
    """An autoencoder that keeps what it was given."""

    dtype = torch.bfloat16

    def decode(self, z: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        self.z = z
        return (z[:, :3],)


@pytest.mark.parametrize("device", [CPU, torch.device("meta")])
@pytest.mark.parametrize("given", [torch.contiguous_format, torch.channels_last])
def test_the_decoder_gets_latents_in_the_layout_of_its_weights(
    device: torch.device, given: torch.memory_format
) -> None:
    recorder = Recorder()
    vae = Vae(recorder, latent_channels=4, downscale_factor=1, scaling_factor=1, shift_factor=0)
    latents = torch.zeros(2, 4, 5, 4, device=device).contiguous(memory_format=given)
    images, _ = vae.decode(latents)
    assert recorder.z.is_contiguous(memory_format=memory_format_on(device))
    assert images.is_contiguous()


def test_only_a_cpu_decodes_in_channels_last() -> None:
    assert memory_format_on(CPU) is torch.channels_last
    for device in (CUDA, torch.device("cuda:1"), torch.device("meta")):
        assert memory_format_on(device) is torch.contiguous_format


@pytest.mark.parametrize(
    ("device", "asked", "given"),
    [
        (CPU, torch.float32, torch.float32),
        (CPU, torch.bfloat16, torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32),
        (CUDA, torch.bfloat16, torch.bfloat16),
        (CUDA, torch.float16, torch.bfloat16),
        (CUDA, torch.float32, torch.float32),
    ],
)
def test_dtype_follows_the_device(
    device: torch.device, asked: torch.dtype, given: torch.dtype
) -> None:
    assert default_vae_dtype(device, asked) == given


@pytest.mark.gpu
def test_the_gpu_decodes_the_same_images(tmp_path: Path) -> None:
    write_vae(tmp_path)
    latents = random_latents()
    images, finite = load(tmp_path, torch.bfloat16, CUDA).decode(latents.cuda())
    assert images.device.type == "cuda"
    assert finite.all()
    assert (images.cpu().int() - load(tmp_path).decode(latents)[0].int()).abs().max() <= 6


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2), (torch.bfloat16, 6)], ids=["fp32", "bf16"]
)
def test_the_gpu_decodes_the_same_images_in_either_layout(
    tmp_path: Path, dtype: torch.dtype, tolerance: int
) -> None:
    vae = load(write_vae(tmp_path), dtype, CUDA)
    latents = random_latents().cuda()
    images, _ = vae.decode(latents)
    vae.module.to(memory_format=torch.channels_last)
    z = (latents / vae.scaling_factor).to(dtype, memory_format=torch.channels_last)
    with torch.no_grad():
        x = vae.module.decode(z, return_dict=False)[0].float()
    levels = ((x / 2 + 0.5) * 255).clamp(0, 255).permute(0, 2, 3, 1)
    assert (images - levels).abs().max() < tolerance


@pytest.mark.parametrize("spoil", ["leave out", "nan"])
def test_only_what_decoding_needs_is_read(spoil: str, tmp_path: Path) -> None:
    vae, latents = small_vae(), random_latents()
    write_vae(tmp_path, vae)
    unused = ("encoder.", "quant_conv.")
    state = {
        name: tensor * torch.nan if name.startswith(unused) else tensor
        for name, tensor in vae.state_dict().items()
        if spoil == "nan" or not name.startswith(unused)
    }
    write_tensors(tmp_path / f"{STEM}.safetensors", state)
    found = load(tmp_path)
    assert (found.decode(latents)[0] - expected_levels(latents / 0.5, vae)).abs().max() < 0.51
    assert not any(name.startswith(unused) for name in found.module.state_dict())


@pytest.mark.parametrize("legacy", [False, True])
def test_attention_of_1x1_convolutions_is_read(legacy: bool, tmp_path: Path) -> None:
    vae, latents = small_vae(), random_latents()
    write_vae(tmp_path, vae)
    old = {new: name for name, new in loading._LEGACY_NAMES.items()} if legacy else {}
    state = {}
    for name, tensor in vae.state_dict().items():
        attends = ".attentions." in name and name.endswith("weight") and tensor.ndim == 2
        for now, before in old.items():
            name = name.replace(now, before)
        state[name] = tensor[:, :, None, None] if attends else tensor
    write_tensors(tmp_path / f"{STEM}.safetensors", state)
    assert (
        load(tmp_path).decode(latents)[0] - expected_levels(latents / 0.5, vae)
    ).abs().max() < 0.51


@pytest.mark.parametrize("scaling_factor", [1e-320, 1e-300, 1e30, 0, -1])
def test_a_scaling_factor_that_leaves_no_number_is_refused(
    scaling_factor: float, tmp_path: Path
) -> None:
    edit_json(write_vae(tmp_path) / "config.json", scaling_factor=scaling_factor)
    with pytest.raises(CheckpointError, match=r"scaling_factor is .* must be "):
        load(tmp_path)
