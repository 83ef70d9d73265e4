"""LeanResnet computes the numbers of diffusers' residual block, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D

from model.networks.lean_resnet import LeanResnet, is_plain, make_lean


def autoencoder(*, attention: bool) -> AutoencoderKL:
    """Blocks with and without a shortcut."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        mid_block_add_attention=attention,
    ).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", [True, False])
@torch.no_grad()
def test_a_lean_decoder_decodes_the_same_bits(attention: bool, dtype: torch.dtype) -> None:
    vae = autoencoder(attention=attention).to(dtype)
    lean = copy.deepcopy(vae)
    make_lean(lean.decoder)
    kinds = [type(each) for each in lean.decoder.modules()]
    assert ResnetBlock2D not in kinds
    assert LeanResnet in kinds
    z = torch.randn(3, 4, 5, 6, dtype=dtype).to(memory_format=torch.channels_last)
    before = z.clone()
    assert torch.equal(lean.decode(z).sample, vae.decode(z).sample)
    assert torch.equal(z, before)


@pytest.mark.parametrize(
    "options",
    [
        {"temb_channels": 8},
        {"non_linearity": "gelu"},
        {"output_scale_factor": 2.0},
        {"up": True},
        {"down": True},
    ],
)
def test_blocks_of_other_kinds_stay(options: dict[str, object]) -> None:
    arguments = {"in_channels": 8, "groups": 4, "temb_channels": None} | options
    block = ResnetBlock2D(**arguments)
    assert not is_plain(block)
    parent = torch.nn.ModuleList([block])
    make_lean(parent)
    assert parent[0] is block
