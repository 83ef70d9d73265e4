"""The further training of the decoder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME

from model.train.autoencoder import decoder
from model.train.autoencoder.network import reconstruct
from model.train.data.latents import encode
from model.train.data.similarity import psnr
from tests.train.pictures import random_images
from tests.train.small_networks import saved_autoencoder


def decoder_examples(vae: AutoencoderKL) -> decoder.Examples:
    images, labels = random_images(6), torch.tensor([0, 1, 0, 1, 0, 1])
    latents = torch.stack([encode(vae, images), encode(vae, images.flip(3))], dim=1)
    return decoder.Examples(images, labels, latents)


@pytest.mark.parametrize("kind", [decoder.WIDE, decoder.TEXTURED])
def test_a_decoder_learns_and_the_latents_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    vae = saved_autoencoder(tmp_path / "vae")
    examples, accelerator = decoder_examples(vae), Accelerator(cpu=True)
    monkeypatch.setattr(decoder, "WIDE_RATE", 2e-3)
    monkeypatch.setattr(decoder, "TEXTURED_RATE", 2e-3)
    steps = {
        "wide_steps": 60 * (kind == decoder.WIDE),
        "textured_steps": 60 * (kind != decoder.WIDE),
    }
    plan = decoder.Plan(**steps, batch_size=6)

    def trained() -> AutoencoderKL:
        folder = decoder.train(
            examples, tmp_path / "vae", plan, out=tmp_path, accelerator=accelerator
        )
        assert folder == tmp_path / kind
        return AutoencoderKL.from_pretrained(folder).eval()

    first = trained()
    rebuilt = reconstruct(first, examples.images)
    before = reconstruct(vae, examples.images)
    rounding = 0.02 if kind == decoder.WIDE else 0.0  # encode runs in bfloat16
    latents = encode(first, examples.images)
    torch.testing.assert_close(latents, examples.latents[:, 0], atol=rounding, rtol=0)
    assert psnr(rebuilt, examples.images) > psnr(before, examples.images) + 1.5

    weights = tmp_path / kind / SAFETENSORS_WEIGHTS_NAME
    saved_at = weights.stat().st_mtime_ns
    assert torch.equal(reconstruct(trained(), examples.images), rebuilt)
    assert weights.stat().st_mtime_ns == saved_at
    os.utime(weights, (0, 0))
    assert torch.equal(reconstruct(trained(), examples.images), rebuilt)
    assert weights.stat().st_mtime_ns > saved_at


def test_the_textured_decoder_grows_out_of_the_wide_one(tmp_path: Path) -> None:
    vae = saved_autoencoder(tmp_path / "vae")
    examples, accelerator = decoder_examples(vae), Accelerator(cpu=True)

    def trained(wide_steps: int, textured_steps: int) -> Path:
        plan = decoder.Plan(wide_steps=wide_steps, textured_steps=textured_steps, batch_size=6)
        return decoder.train(
            examples, tmp_path / "vae", plan, out=tmp_path, accelerator=accelerator
        )

    assert trained(0, 0) == tmp_path / "vae"
    folder = trained(1, 1)
    assert folder == tmp_path / decoder.TEXTURED
    wide, textured = (
        AutoencoderKL.from_pretrained(tmp_path / name) for name in (decoder.WIDE, folder)
    )
    assert textured.config.block_out_channels == [32, 64, 128]
    apart = [
        float((a - b).detach().abs().max())
        for a, b in zip(wide.decoder.parameters(), textured.decoder.parameters())
    ]
    assert 0 < max(apart) < 10 * decoder.TEXTURED_RATE
