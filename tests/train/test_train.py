"""The recipe of the bundled model: photographs, trainer, autoencoder, export, evaluation."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DiTPipeline
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from model.networks.dit import DiT
from model.sampling.schedule import NoiseSchedule
from model.train import __main__ as whole_recipe
from model.train import export, transformer
from model.train.autoencoder import autoencoder, decoder
from model.train.autoencoder.discriminator import PatchDiscriminator, hinge_loss
from model.train.autoencoder.learners import Rivals
from model.train.autoencoder.widen import widened
from model.train.data import duplicates
from model.train.data.latents import draw, encode, training_latents
from model.train.data.photographs import load_photographs
from model.train.evaluation import classifier, evaluate, report, similarity
from model.train.evaluation.measure import Figures, balanced
from model.train.trainer import MATRIX_RATE, Loss, Schedule, Trainer
from model.weights.checkpoint import load_checkpoint
from tests.support.pictures import paint

CPU = torch.device("cpu")


def random_images(count: int, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return (smooth * 255).to(torch.uint8)


# photographs


def test_the_last_tenth_of_each_run_is_held_out(tmp_path: Path) -> None:
    for frame in range(20):
        paint(tmp_path / "Pear" / f"{frame}_100.png", 2 * frame)
    for frame in range(10):
        paint(tmp_path / "Pear" / f"r_{frame}_100.png", 100 + 2 * frame)
    paint(tmp_path / "Apple" / "0_100.png", 7)
    photographs = load_photographs(tmp_path, 32)
    assert photographs.class_names == ("Apple", "Pear")
    assert photographs.labels.tolist() == [0] + [1] * 30
    held_out, labels = photographs.part(held_out=True)
    levels = held_out[:, 0].flatten(1).amin(1).tolist()
    assert levels == [36, 38, 118]  # frames 18 and 19 of the first run, 9 of the second
    assert labels.tolist() == [1, 1, 1]
    assert len(photographs.part(held_out=False)[0]) == 28


def test_photographs_are_cut_to_their_centre_square_and_resized(tmp_path: Path) -> None:
    picture = np.zeros((40, 120, 3), np.uint8)
    picture[:, 40:80] = (10, 200, 30)  # the centre square
    (tmp_path / "Kiwi").mkdir()
    Image.fromarray(picture).save(tmp_path / "Kiwi" / "1.png")
    images = load_photographs(tmp_path, 16).images
    assert images.shape == (1, 3, 16, 16)
    assert (images[0].amax((1, 2)).tolist(), images[0].amin((1, 2)).tolist()) == (
        [10, 200, 30],
        [10, 200, 30],
    )


def test_pictures_are_left_out_by_their_path(tmp_path: Path) -> None:
    for frame in range(10):
        paint(tmp_path / "Pear" / f"{frame}.png", 10)
        paint(tmp_path / "Pear" / f"r_{frame}.png", 20)
        paint(tmp_path / "Plum" / f"r_{frame}.png", 30)
    photographs = load_photographs(tmp_path, 32, ["Pear/r_*", "Plum/r_7.png"])
    names = [file.relative_to(tmp_path).as_posix() for file in photographs.files]
    assert names == [f"Pear/{i}.png" for i in range(10)] + [
        f"Plum/r_{i}.png" for i in range(10) if i != 7
    ]
    assert photographs.images[:, 0].flatten(1).amin(1).tolist() == [10] * 10 + [30] * 9
    with pytest.raises(ValueError, match=r"'Pear/q_\*'"):
        load_photographs(tmp_path, 32, ["Pear/r_*", "Pear/q_*"])


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no class folder"):
        load_photographs(tmp_path, 32)
    (tmp_path / "Empty").mkdir()
    with pytest.raises(ValueError, match="no picture"):
        load_photographs(tmp_path, 32)


def test_photographs_under_two_labels_are_told(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (7, 32, 32, 3), dtype=torch.uint8, generator=generator)
    far, near = noise[0] ^ 0b1000, noise[1] ^ 0b1  # each pixel 8 levels away, and 1
    classes: dict[str, list[Tensor]] = {
        "Cherry": [*noise[:3], noise[2]],
        "Plum": [noise[4], near, far],
        "Sloe": [*noise[5:]],
    }
    for name, pictures in classes.items():
        (tmp_path / name).mkdir()
        for frame, picture in enumerate(pictures):
            Image.fromarray(picture.numpy()).save(tmp_path / name / f"{frame}.png")
    assert duplicates.report(load_photographs(tmp_path, 32)).splitlines() == [
        "1 of 4 photographs of Cherry also stand in Plum: 1.png is 1.png there",
        "1 of 3 photographs of Plum also stand in Cherry: 1.png is 1.png there",
    ]
    for path in (tmp_path / "Plum").iterdir():
        path.unlink()
    Image.fromarray(noise[4].numpy()).save(tmp_path / "Plum" / "0.png")
    alone = duplicates.report(load_photographs(tmp_path, 32))
    assert alone == "no photograph stands under two labels"


# trainer


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    schedule = Schedule(steps=1000, learning_rate=2.0, warmup_steps=100)
    assert schedule.rate(0) == pytest.approx(2.0 / 100)
    assert schedule.rate(49) == pytest.approx(2.0 * 0.5 * (1 - 0.049))
    assert schedule.rate(500) == pytest.approx(1.0)
    assert schedule.rate(1000) == 0.0
    rates = [schedule.rate(step) for step in range(1001)]
    assert max(rates) == pytest.approx(rates[99])


def noisy_network() -> nn.Module:
    """A network that draws from both generators when it trains."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))


def trainer(schedule: Schedule, state_file: Path, *, muon: bool = False) -> Trainer[nn.Module]:
    network = noisy_network()
    matrices = [weight for weight in network.parameters() if muon and weight.ndim == 2]
    return Trainer(network, schedule, state_file, Accelerator(cpu=True), matrices)


def noisy_loss(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    x = torch.randn(16, 4, generator=generator)
    return {"loss": (network(x).squeeze(1) - x.sum(1)).square().mean()}


def interrupted_after(steps: int) -> Loss:
    calls = 0

    def loss(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        nonlocal calls
        if calls == steps:
            raise KeyboardInterrupt
        calls += 1
        return noisy_loss(network, generator)

    return loss


@pytest.mark.parametrize("muon", [False, True])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, muon: bool
) -> None:
    schedule = Schedule(steps=9, learning_rate=1e-2, warmup_steps=3)
    whole = trainer(schedule, tmp_path / "whole.pt", muon=muon)
    whole.run(noisy_loss)
    first = trainer(schedule, tmp_path / "parts.pt", muon=muon)
    with pytest.raises(KeyboardInterrupt):
        first.run(interrupted_after(7), save_every=5)
    second = trainer(schedule, tmp_path / "parts.pt", muon=muon)
    second.resume()
    assert second.step == 5
    second.run(noisy_loss)
    for ours, theirs in ((whole.module, second.module), (whole.ema, second.ema)):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name


@pytest.mark.parametrize("steps", [3, 40], ids=["as it warms up", "long after"])
def test_the_average_follows_the_weights(tmp_path: Path, steps: int) -> None:
    schedule = Schedule(steps, learning_rate=1e-2, warmup_steps=1, ema_decay=0.7)
    averaged = trainer(schedule, tmp_path / "state.pt")
    seen: list[Tensor] = []

    def recording(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        seen.append(next(network.parameters()).detach().clone())
        return noisy_loss(network, generator)

    averaged.run(recording)
    average = seen[0].clone()
    for step, weights in enumerate([*seen[1:], next(averaged.module.parameters()).detach()], 1):
        decay = min(0.7, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weights
    torch.testing.assert_close(next(averaged.ema.parameters()), average)
    assert not averaged.ema.training


def test_muon_moves_a_matrix_as_far_in_every_direction_and_adamw_the_rest(tmp_path: Path) -> None:
    rate = 1e-2
    schedule = Schedule(steps=1, learning_rate=rate, warmup_steps=1)
    of_both = trainer(schedule, tmp_path / "state.pt", muon=True)
    before = [weight.detach().clone() for weight in of_both.module.parameters()]
    of_both.run(noisy_loss)
    moves = [now.detach() - then for now, then in zip(of_both.module.parameters(), before)]
    for matrix in (moves[0], moves[2]):  # (8, 4) and (1, 8)
        step = MATRIX_RATE * rate * 0.2 * math.sqrt(max(matrix.shape))
        lengths = torch.linalg.svdvals(matrix) / step
        assert 0.6 < lengths.min() <= lengths.max() < 1.3
    torch.testing.assert_close(moves[3].abs(), torch.tensor([rate]), rtol=1e-3, atol=0)


def test_muon_has_the_products_over_tokens() -> None:
    dit = DiT(**transformer.dit_facts("small", (4, 4, 4), num_classes=3))
    names = {id(weight): name for name, weight in dit.named_parameters()}
    chosen = [names[id(weight)] for weight in transformer.block_matrices(dit)]
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert chosen == [f"blocks.{block}.{layer}.weight" for block in range(8) for layer in layers]


# autoencoder


@torch.no_grad()
def test_standardised_latents_decode_to_the_same_pictures() -> None:
    torch.manual_seed(1)
    vae = autoencoder.small_autoencoder(32).eval()
    images = random_images(24)
    before = autoencoder.reconstruct(vae, images)
    spread_before = vae.encode(autoencoder.to_unit_range(images)).latent_dist
    autoencoder.standardise_latents(vae, images)
    spread = vae.encode(autoencoder.to_unit_range(images)).latent_dist
    channels = vae.config.latent_channels
    zeros, ones = torch.zeros(channels), torch.ones(channels)
    torch.testing.assert_close(spread.mean.mean((0, 2, 3)), zeros, atol=1e-4, rtol=0)
    torch.testing.assert_close(spread.mean.std((0, 2, 3)), ones, atol=1e-4, rtol=0)
    scale = spread_before.mean.std((0, 2, 3)).view(1, channels, 1, 1)
    torch.testing.assert_close(spread.std * scale, spread_before.std, rtol=1e-3, atol=1e-6)
    after = autoencoder.reconstruct(vae, images)
    assert int((after.int() - before.int()).abs().max()) <= 1


def test_a_picture_becomes_latents_of_the_shape_asked_for() -> None:
    pixels = autoencoder.to_unit_range(random_images(2))
    for shape in (autoencoder.LatentShape(), autoencoder.LatentShape(channels=3, downscale=8)):
        vae = autoencoder.small_autoencoder(32, shape)
        side = 32 // shape.downscale
        assert vae.encode(pixels).latent_dist.mean.shape == (2, shape.channels, side, side)
        assert vae.decode(torch.zeros(1, shape.channels, side, side)).sample.shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("--image-size 64", (4, 4)),
        ("--image-size 72", (8, 8)),
        ("--image-size 72 --downscale 4", (4, 4)),
        ("--image-size 64 --downscale 8", (8, 8)),
        ("--image-size 64 --latent-channels 3", (3, 4)),
    ],
)
def test_larger_pictures_get_relatively_smaller_latents(
    options: str, shape: tuple[int, int]
) -> None:
    parser = whole_recipe.options_parser()
    parsed = parser.parse_args(["--data", ".", "--out", ".", *options.split()])
    assert autoencoder.latent_shape(parsed) == autoencoder.LatentShape(*shape)


# the decoder's own trainings


def test_decoder_and_discriminator_learn_from_their_own_loss_alone() -> None:
    torch.manual_seed(1)
    rivals = Rivals(autoencoder.small_autoencoder(32), num_classes=2)
    latents, pixels = torch.randn(2, 4, 8, 8), torch.rand(2, 3, 32, 32) * 2 - 1
    losses = rivals(latents, pixels, torch.tensor([0, 1]))
    of_decoder = list(rivals.decode.parameters())
    of_discriminator = list(rivals.discriminator.parameters())

    def reached(term: str, weights: list[nn.Parameter]) -> int:
        gradients = torch.autograd.grad(losses[term], weights, retain_graph=True, allow_unused=True)
        return sum(gradient is not None for gradient in gradients)

    for term in ("l1", "gradient", "adversarial"):
        assert reached(term, of_decoder) == len(of_decoder), term
        assert reached(term, of_discriminator) == 0, term
    assert reached("discriminator", of_decoder) == 0
    assert reached("discriminator", of_discriminator) == len(of_discriminator)


def test_the_discriminator_learns_which_class_has_which_patches() -> None:
    torch.manual_seed(1)
    discriminator = PatchDiscriminator(num_classes=2)
    stripes = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(8).expand(1, 3, 32, 32)
    photographs = torch.cat([stripes, stripes.transpose(2, 3)])
    labels = torch.tensor([0, 1])
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=2e-3)
    for _ in range(60):
        swapped = discriminator(photographs.flip(0), labels)
        loss = hinge_loss(discriminator(photographs, labels), swapped)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss < 0.1


def decoder_examples(vae: AutoencoderKL) -> decoder.Examples:
    images, labels = random_images(6), torch.tensor([0, 1, 0, 1, 0, 1])
    latents = torch.stack([encode(vae, images), encode(vae, images.flip(3))], dim=1)
    return decoder.Examples(images, labels, latents)


def saved_autoencoder(folder: Path) -> AutoencoderKL:
    torch.manual_seed(1)
    vae = autoencoder.small_autoencoder(32).eval()
    vae.register_to_config(scaling_factor=0.5, shift_factor=0.1)
    vae.save_pretrained(folder)
    return vae


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
        folder = decoder.train(examples, tmp_path / "vae", plan, tmp_path, accelerator)
        assert folder == tmp_path / kind
        return AutoencoderKL.from_pretrained(folder).eval()

    first = trained()
    rebuilt = autoencoder.reconstruct(first, examples.images)
    before = autoencoder.reconstruct(vae, examples.images)
    rounding = 0.02 if kind == decoder.WIDE else 0.0  # encode runs in bfloat16
    latents = encode(first, examples.images)
    torch.testing.assert_close(latents, examples.latents[:, 0], atol=rounding, rtol=0)
    assert (
        similarity.psnr(rebuilt, examples.images) > similarity.psnr(before, examples.images) + 1.5
    )

    weights = tmp_path / kind / SAFETENSORS_WEIGHTS_NAME
    saved_at = weights.stat().st_mtime_ns
    assert torch.equal(autoencoder.reconstruct(trained(), examples.images), rebuilt)
    assert weights.stat().st_mtime_ns == saved_at
    os.utime(weights, (0, 0))
    assert torch.equal(autoencoder.reconstruct(trained(), examples.images), rebuilt)
    assert weights.stat().st_mtime_ns > saved_at


def test_the_textured_decoder_grows_out_of_the_wide_one(tmp_path: Path) -> None:
    vae = saved_autoencoder(tmp_path / "vae")
    examples, accelerator = decoder_examples(vae), Accelerator(cpu=True)

    def trained(wide_steps: int, textured_steps: int) -> Path:
        plan = decoder.Plan(wide_steps, textured_steps, batch_size=6)
        return decoder.train(examples, tmp_path / "vae", plan, tmp_path, accelerator)

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


def test_a_widened_autoencoder_is_the_same_function_and_its_copies_part(tmp_path: Path) -> None:
    vae = saved_autoencoder(tmp_path / "vae")
    with torch.no_grad():
        for name, weight in vae.named_parameters():
            if "norm" in name:
                weight += 0.3 * torch.randn(weight.shape)
    wide = widened(vae, 3, seed=5)
    assert wide.config.block_out_channels == [48, 96, 192]
    assert (wide.config.scaling_factor, wide.config.shift_factor) == (0.5, 0.1)
    pixels = autoencoder.to_unit_range(random_images(2))
    moments = vae.encode(pixels).latent_dist.parameters
    torch.testing.assert_close(
        wide.encode(pixels).latent_dist.parameters, moments, atol=1e-4, rtol=1e-4
    )
    latents = moments.chunk(2, dim=1)[0]
    decoded = wide.decode(latents).sample
    torch.testing.assert_close(decoded, vae.decode(latents).sample, atol=1e-4, rtol=1e-4)
    torch.autograd.backward(decoded.square().mean())
    gradient = wide.decoder.conv_in.weight.grad
    assert gradient is not None
    copies = gradient.unflatten(0, (-1, 3))
    assert bool(((copies[:, 0] - copies[:, 1]).abs().amax((1, 2, 3)) > 0).all())


def test_an_autoencoder_that_attends_is_not_widened() -> None:
    vae = autoencoder.small_autoencoder(32)
    vae.register_to_config(mid_block_add_attention=True)
    with pytest.raises(ValueError, match="attends"):
        widened(vae, 2)


# measures


def test_psnr_is_that_of_its_definition() -> None:
    images = random_images(3).clamp(max=250)
    assert similarity.psnr(images + 5, images) == pytest.approx(20 * math.log10(255 / 5), abs=1e-3)
    flat = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    errors = torch.tensor([5, 50], dtype=torch.uint8).view(2, 1, 1, 1)
    mean = 10 * math.log10(255 / 5) + 10 * math.log10(255 / 50)  # of the pictures' own
    assert similarity.psnr(flat + errors, flat) == pytest.approx(mean, abs=1e-3)
    assert similarity.psnr(flat, flat) == pytest.approx(20 * math.log10(255 / 0.01), abs=1e-3)


def test_ssim_is_that_of_its_definition() -> None:
    images = random_images(4)
    assert similarity.ssim(images, images) == pytest.approx(1.0)
    flat, lighter = torch.full((1, 3, 16, 16), 100), torch.full((1, 3, 16, 16), 120)
    c1 = (0.01 * 255) ** 2  # two flat pictures differ in their means alone
    means = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    both = similarity.ssim(flat.to(torch.uint8), lighter.to(torch.uint8))
    assert both == pytest.approx(means)
    noise = torch.randint(-40, 41, images.shape, generator=torch.Generator().manual_seed(1))
    noisy = (images.int() + noise).clamp(0, 255).to(torch.uint8)
    assert 0 < similarity.ssim(noisy, images) < 0.7


def test_ssim_weighs_a_window_as_its_authors_do() -> None:
    places = torch.arange(11) - 5
    weights = torch.exp(-(places[:, None] ** 2 + places**2).double() / (2 * 1.5**2))
    weights /= weights.sum()
    pictures = random_images(2, size=11)  # one window each
    x, y = pictures[0].double(), pictures[1].double()

    def mean(values: Tensor) -> Tensor:
        return (values * weights).sum((1, 2))

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    covariance = mean(x * y) - mean(x) * mean(y)
    variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
    likeness = (2 * mean(x) * mean(y) + c1) * (2 * covariance + c2)
    by_channel = likeness / ((mean(x) ** 2 + mean(y) ** 2 + c1) * (variances + c2))
    assert similarity.ssim(pictures[:1], pictures[1:]) == pytest.approx(float(by_channel.mean()))


def test_frechet_distance_of_known_gaussians() -> None:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(200_000, 3, generator=generator)
    b = torch.randn(200_000, 3, generator=generator) * 2 + 1
    assert similarity.frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    # |mean difference|^2 + sum (2 - 1)^2 over three dimensions
    assert similarity.frechet_distance(a, b) == pytest.approx(3 + 3, rel=0.02)


def test_a_mirrored_photograph_is_seen_as_a_copy() -> None:
    photographs = random_images(5)
    pictures = torch.stack([photographs[3].flip(2), (photographs[1].int() + 6).clamp(max=255)])
    away = similarity.nearest(pictures.to(torch.uint8), photographs)
    assert away[0] == pytest.approx(0, abs=1e-4)
    assert 4 < away[1] <= 6


def test_spread_is_the_mean_distance_of_two_pictures() -> None:
    flat = [torch.full((3, 8, 8), level, dtype=torch.uint8) for level in (10, 20, 40)]
    assert similarity.spread(torch.stack(flat)) == pytest.approx((10 + 20 + 30) / 3)
    assert similarity.spread(torch.stack([flat[0]] * 4)) == pytest.approx(0, abs=1e-4)


def test_a_balanced_sample_repeats_no_photograph() -> None:
    labels = torch.tensor([0] * 5 + [1] * 3)
    assert balanced(labels, 2, each=4).tolist() == [0, 1, 3, 4, 5, 6, 7]
    with pytest.raises(ValueError, match="class 2 has 0 photographs"):
        balanced(labels, 3, each=4)
    with pytest.raises(ValueError, match="class 1 has 1 photographs"):
        balanced(torch.tensor([0, 0, 1]), 2, each=4)
    assert balanced(torch.tensor([1, 0, 1, 0]), 2, each=4).tolist() == [1, 3, 0, 2]


# the latents


def test_latents_are_kept_for_these_photographs_and_this_encoder_alone(tmp_path: Path) -> None:
    images, accelerator = random_images(3), Accelerator(cpu=True)
    for seed in (1, 2):
        torch.manual_seed(seed)
        vae = autoencoder.small_autoencoder(32)
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


def test_a_run_of_another_network_is_refused(tmp_path: Path) -> None:
    latents, labels = torch.zeros(4, 2, 4, 4, 4), torch.tensor([0, 1, 2, 0])
    plan, accelerator = transformer.Plan(steps=1, batch_size=2), Accelerator(cpu=True)
    transformer.train(latents, labels, plan, tmp_path, accelerator)
    before = (tmp_path / "transformer.json").read_text()
    with pytest.raises(ValueError, match="holds a run of another network"):
        transformer.train(latents, labels[labels < 2], plan, tmp_path, accelerator)
    assert (tmp_path / "transformer.json").read_text() == before
    assert export.averaged_dit(tmp_path).num_classes == 3


# the DiT


def test_half_of_the_timesteps_are_where_a_picture_takes_shape() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [transformer.draw_timesteps(10, generator) for _ in range(400)]
    for t in batches:
        everywhere, shaping = t[::2].sort().values, t[1::2].sort().values
        assert 0 <= everywhere[0] <= everywhere[-1] < 1000
        assert 150 <= shaping[0] <= shaping[-1] < 700
        assert 198 <= everywhere.diff().min() <= everywhere.diff().max() <= 202
        assert 108 <= shaping.diff().min() <= shaping.diff().max() <= 112
    together = torch.cat(batches).float()
    assert together.mean() == pytest.approx((499.5 + 424.5) / 2, abs=5)


def test_the_error_of_what_is_nearly_clean_weighs_less() -> None:
    schedule = NoiseSchedule()
    weights = transformer.error_weights(schedule)
    snr = torch.from_numpy(schedule.alpha_bar / (1 - schedule.alpha_bar)).float()
    assert (weights[snr <= 5] == 1).all()
    torch.testing.assert_close((weights * snr)[snr > 5], torch.full((int((snr > 5).sum()),), 5.0))
    latents, labels = torch.randn(4, 2, 4, 4, 4), torch.tensor([0, 1, 2, 0])
    # An untrained DiT answers 0, so its error is the noise squared.
    untrained = DiT(**SMALL_DIT | {"num_classes": 3})
    losses = transformer.diffusion_loss(latents, labels, 256)(
        untrained, torch.Generator().manual_seed(1)
    )
    generator = torch.Generator().manual_seed(1)
    draw(latents, 256, generator)
    expected = float(weights[transformer.draw_timesteps(256, generator)].mean())
    assert expected < 0.96
    weighed = float(((losses["loss"] - losses["vb"]) / losses["mse"]).detach())
    assert weighed == pytest.approx(expected, abs=0.01)


SMALL_DIT: dict[str, Any] = {
    "hidden_size": 32,
    "depth": 2,
    "num_heads": 2,
    "patch_size": 2,
    "in_channels": autoencoder.LatentShape().channels,
    "input_size": 4,
    "downscale_freq_shift": 1,
}


def test_a_dit_begins_with_what_fits_of_a_trained_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = random_dit(num_classes=3)
    names: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    export.export(trained, autoencoder.small_autoencoder(32), names, tmp_path, licence="mit")
    own = DiT(**SMALL_DIT | {"num_classes": 5, "input_size": 8})
    table = own.y_embedder.embedding_table.weight.detach().clone()
    places = own.pos_embed.clone()
    transformer.take_over(own, str(tmp_path))
    assert "but for y_embedder.embedding_table.weight\n" in capsys.readouterr().out
    assert torch.equal(own.y_embedder.embedding_table.weight, table)
    assert torch.equal(own.pos_embed, places)
    for mine, theirs in zip(own.blocks.parameters(), trained.blocks.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)  # the folder is in fp16
    with pytest.raises(ValueError, match=r"nothing of .* fits"):
        transformer.take_over(random_dit(hidden_size=48, patch_size=4), str(tmp_path))
    with pytest.raises(ValueError, match="cannot begin with"):
        transformer.take_over(own, str(tmp_path / "nowhere"))


def test_a_run_that_goes_on_no_longer_needs_what_it_began_with(tmp_path: Path) -> None:
    latents, labels = torch.randn(4, 2, 4, 4, 4), torch.tensor([0, 1, 2, 0])
    accelerator = Accelerator(cpu=True)
    begun = transformer.Plan(steps=1, batch_size=2)
    transformer.train(latents, labels, begun, tmp_path, accelerator)
    gone = transformer.Plan(steps=2, batch_size=2, begin_with=str(tmp_path / "gone"))
    transformer.train(latents, labels, gone, tmp_path, accelerator)
    with pytest.raises(ValueError, match="cannot begin with"):
        transformer.train(latents, labels, gone, tmp_path / "anew", accelerator)


def test_a_model_to_begin_with_is_missed_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data", tmp_path, "--out", tmp_path / "out", "--cpu"]
    arguments += ["--begin-with", tmp_path / "nowhere"]
    monkeypatch.setattr(sys, "argv", ["model.train", *map(str, arguments)])
    with pytest.raises(SystemExit, match="cannot begin with"):
        whole_recipe.main()


# the whole recipe


def run(monkeypatch: pytest.MonkeyPatch, module: str, *arguments: object) -> None:
    """Run a module of the recipe as its command does."""
    mains = {
        "autoencoder": autoencoder.main,
        "decoder": decoder.main,
        "transformer": transformer.main,
        "classifier": classifier.main,
        "export": export.main,
        "evaluate": evaluate.main,
        "report": report.main,
    }
    monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
    mains[module]()


def test_a_folder_of_pictures_becomes_a_model_that_diffusers_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, folder = tmp_path / "data", tmp_path / "run", tmp_path / "model"
    for name, level in (("Fig", 30), ("Lime", 90), ("Plum", 150)):
        for frame in range(20):
            paint(data / name / f"{frame}.png", level + frame)
    common = (
        "--data",
        data,
        "--out",
        out,
        "--image-size",
        32,
        "--batch-size",
        4,
        "--cpu",
    )
    short = ("--steps", 3)
    given = ("--vae", out / "vae")
    run(monkeypatch, "autoencoder", *common, *short)
    run(monkeypatch, "decoder", *common, *given, "--wide-steps", 3, "--textured-steps", 3)
    run(monkeypatch, "transformer", *common, *short, *given)
    run(monkeypatch, "classifier", *common, *short)
    (tmp_path / "names.json").write_text(json.dumps({"Plum": ["Prune"]}))
    parts = ("--run", out, "--vae", out / decoder.TEXTURED)
    names = ("--synonyms", tmp_path / "names.json", "--licence", "mit")
    run(monkeypatch, "export", "--data", data, "--out", folder, *parts, *names)

    for config in folder.rglob("*.json"):
        assert str(tmp_path) not in config.read_text(), config

    pipeline = DiTPipeline.from_pretrained(folder)
    assert pipeline.get_label_ids(["Fig", "Prune"]) == [0, 2]
    pictures = pipeline([0, 2], guidance_scale=1.0, num_inference_steps=2, output_type="np").images
    assert pictures.shape == (2, 32, 32, 3)

    checkpoint = load_checkpoint(str(folder), device=CPU, dtype=torch.float32)
    assert checkpoint.class_names == (("Fig",), ("Lime",), ("Plum", "Prune"))
    assert (checkpoint.licence, checkpoint.image_size) == ("MIT", 32)
    check_networks_agree(checkpoint.dit, pipeline.transformer)

    judged = ("--classifier", out / "classifier.safetensors", "--json", tmp_path / "figures.json")
    model = ("--model", folder, "--vae", folder / "vae", "--each", 2, "--device", "cpu")
    run(
        monkeypatch,
        "evaluate",
        "--data",
        data,
        *judged,
        *model,
        "ddpm:2:1.5",
        "ddim:2:1",
        "ddim:2:3:.4-.6",
    )
    figures = json.loads((tmp_path / "figures.json").read_text())
    samplings = [row.pop("name") for row in figures["rows"][4:]]
    assert samplings == ["ddpm 2 cfg 1.5", "ddim 2 cfg 1", "ddim 2 cfg 3 in 0.4..0.6"]
    _, unguided, between = [row | {"seconds": 0} for row in figures["rows"][4:]]
    assert between == unguided, "two steps, at 1 and 0, lie outside 0.4..0.6"
    assert all(0 <= row["agreement"] <= 1 for row in figures["rows"])
    held_out, trained_on, *_ = figures["rows"]
    assert trained_on["nearest"] == 0, "photographs trained on are among themselves"
    for own, other in (("frechet_distance", held_out), ("frechet_to_trained", trained_on)):
        assert other[own] == pytest.approx(0, abs=1e-5)
    assert held_out["frechet_to_trained"] == pytest.approx(trained_on["frechet_distance"])
    run(monkeypatch, "report", tmp_path / "figures.json", "--page", tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| ddpm 2 cfg 1.5 | 6 |" in page
    assert (tmp_path / "page.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_the_plot_names_the_steps_measured(tmp_path: Path) -> None:
    def row(name: str) -> Figures:
        return Figures(name, 2, 1.0, 0.5, 0.5, 1.0, 0.0, 1.0, {"a": 1.0}, {"a": 1.0})

    names = ("ddim 50 cfg 2", "ddim 20 cfg 2", "dpmpp_2m 10 cfg 2", "ddim 100 cfg 1")
    measured = report.generated([row(name) for name in names])
    report.draw(measured, row("held-out, reconstructed"), tmp_path / "plot.svg")
    plot = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    _, by_steps = plot.split('id="axes_2"')
    axis = by_steps.split('id="matplotlib.axis_')[1]
    written = re.findall(r"<!-- (.+) -->", axis)
    assert written == ["10", "20", "50", "num_sampling_steps, at cfg_scale 2"]


@torch.no_grad()
def check_networks_agree(dit: DiT, transformer_: nn.Module) -> None:
    """To 1e-4, also where the timesteps' frequencies matter and under the null class."""
    generator = torch.Generator().manual_seed(0)
    for parameter in dit.parameters():
        assert not parameter.requires_grad
    x = torch.randn(4, dit.in_channels, dit.input_size, dit.input_size, generator=generator)
    t, y = torch.tensor([0, 3, 500, 999]), torch.tensor([0, 1, 2, 3])
    ours, theirs = dit(x, t, y), transformer_(x, timestep=t, class_labels=y).sample
    assert float(ours.abs().max()) > 0
    torch.testing.assert_close(ours, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=0)


def random_dit(**facts: int) -> DiT:
    dit = DiT(**SMALL_DIT | facts)
    for parameter in dit.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.05)
    return dit.eval().requires_grad_(False)


def test_exported_weights_compute_what_the_averaged_dit_does(tmp_path: Path) -> None:
    torch.manual_seed(2)
    dit = random_dit(num_classes=3)
    check_networks_agree(dit, export.as_diffusers(dit))
    vae = autoencoder.small_autoencoder(32)
    export.export(
        dit, vae, {"a": [], "b": [], "c": []}, tmp_path, licence="mit", default_cfg_scale=2.5
    )
    state = load_file(tmp_path / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    config = json.loads((tmp_path / "transformer" / "config.json").read_text())
    assert config["downscale_freq_shift"] == 1
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["default_cfg_scale"] == 2.5
    assert isinstance(AutoencoderKL.from_pretrained(tmp_path / "vae"), AutoencoderKL)
