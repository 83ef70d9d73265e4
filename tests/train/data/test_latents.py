"""Encoded photographs and their cache."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from model.train.autoencoder.network import small_autoencoder
from model.train.data.latents import training_latents
from tests.train.pictures import random_images


def test_cached_latents_are_used_only_for_the_same_photographs_and_encoder(tmp_path: Path) -> None:
    images, accelerator = random_images(3), Accelerator(cpu=True)
    for seed in (1, 2):
        torch.manual_seed(seed)
        vae = small_autoencoder(32)
        vae.save_pretrained(tmp_path / str(seed))
    vae.register_to_config(scaling_factor=0.5)
    vae.save_pretrained(tmp_path / "2 scaled")
    vae.register_to_config(scaling_factor=1.0)
    nn.init.normal_(vae.decoder.conv_in.weight)
    vae.save_pretrained(tmp_path / "2 decoding otherwise")

    def latents(pictures: Tensor, vae: str) -> Tensor:
        return training_latents(pictures, tmp_path / vae, tmp_path / "latents.pt", accelerator)

    first = latents(images, "1")
    written = (tmp_path / "latents.pt").stat().st_mtime_ns
    assert torch.equal(latents(images, "1"), first)
    assert (tmp_path / "latents.pt").stat().st_mtime_ns == written
    second = latents(images, "2")
    assert not torch.equal(second, first)
    written = (tmp_path / "latents.pt").stat().st_mtime_ns
    assert torch.equal(latents(images, "2 decoding otherwise"), second)
    assert (tmp_path / "latents.pt").stat().st_mtime_ns == written
    torch.testing.assert_close(latents(images, "2 scaled"), second / 2)
    assert torch.equal(latents(images[:2], "1"), first[:2])
