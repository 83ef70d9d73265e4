"""The autoencoder's training: photographs -> a small AutoencoderKL, in diffusers' layout.

    python -m model.train.autoencoder --data PHOTOGRAPHS --out RUN

The loss is L1 on pixels and on their differences (so that edges and textures weigh), and a tiny KL
term, as in latent diffusion (Rombach et al. 2022, section 3.1) without its adversarial part.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderKL
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from torch import Tensor, nn

from model.train.data.photographs import Photographs, load_photographs
from model.train.evaluation.similarity import psnr
from model.train.options import accelerator_of, training_parser
from model.train.trainer import Schedule, Trainer, share

WIDTHS = {4: (16, 32, 64), 8: (16, 32, 64, 64)}
"""Channels of the stages, by how many times a latent's side is smaller than the picture's."""

SMALL_PICTURE = 64
"""Pixels a side, up to which latents 4x smaller leave a DiT with patches of 2 at most 64 tokens."""

KL_WEIGHT = 1e-6

STEPS, BATCH_SIZE, LEARNING_RATE = 12000, 16, 1.5e-3


@dataclass(frozen=True, slots=True)
class LatentShape:
    """What a small autoencoder makes of a picture: so many channels, its side so many times smaller."""

    channels: int = 4
    downscale: int = 4  # one of WIDTHS


def small_autoencoder(image_size: int, shape: LatentShape = LatentShape()) -> AutoencoderKL:
    """Return an untrained AutoencoderKL: 0.65 M parameters for latents 4x smaller, 0.95 M for 8x."""
    widths = WIDTHS[shape.downscale]
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=shape.channels,
        norm_num_groups=8,
        sample_size=image_size,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 0 .. 255 -> float -1 .. 1."""
    return images.float() / 127.5 - 1.0


def mirror_half(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (N, C, S, S), each mirrored with a chance of one half."""
    draws = torch.rand(len(pixels), generator=generator, device=generator.device)
    return torch.where((draws < 0.5)[:, None, None, None], pixels.flip(3), pixels)


class Reconstruction(nn.Module):
    """An autoencoder and its loss: pixels (N, 3, S, S) in -1 .. 1 -> the loss, whole and in terms."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        with torch.autocast(pixels.device.type, torch.bfloat16):
            posterior = self.vae.encode(pixels).latent_dist
            rebuilt = self.vae.decode(posterior.sample()).sample
        losses = pixel_losses(rebuilt.float(), pixels) | {"kl": posterior.kl().mean()}
        loss = losses["l1"] + losses["gradient"] + KL_WEIGHT * losses["kl"]
        return losses | {"loss": loss}


def pixel_losses(rebuilt: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    """L1 on pixels (N, 3, S, S) and on the differences of neighbours, across and down."""
    across = F.l1_loss(rebuilt.diff(dim=3), pixels.diff(dim=3))
    down = F.l1_loss(rebuilt.diff(dim=2), pixels.diff(dim=2))
    return {"l1": F.l1_loss(rebuilt, pixels), "gradient": across + down}


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, images: Tensor) -> None:
    """Fold each latent channel's mean and deviation into the 1x1 convolutions around the latent.

    Afterwards the latents of ``images`` have mean 0 and deviation 1 in every channel, so the
    autoencoder's scaling_factor is 1 and its decoder gives the same pictures as before.
    """
    moments = torch.cat(
        [vae.encode(to_unit_range(part)).latent_dist.mean for part in torch.split(images, 64)]
    )
    mean, deviation = moments.mean((0, 2, 3)), moments.std((0, 2, 3))  # (C,) each
    channels = len(mean)
    into, out_of = vae.quant_conv, vae.post_quant_conv
    out_of.bias += (out_of.weight[:, :, 0, 0] * mean).sum(1)
    out_of.weight *= deviation[None, :, None, None]
    into.weight[:channels] /= deviation[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    into.bias[channels:] -= 2 * deviation.log()  # the other half of the moments is log variance


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """uint8 photographs (N, 3, S, S) -> what the autoencoder makes of them, uint8 again."""
    rebuilt = []
    for part in torch.split(images, 64):
        pixels = vae.decode(vae.encode(to_unit_range(part)).latent_dist.mean).sample
        rebuilt.append(((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
    return torch.cat(rebuilt)


def train(
    photographs: Photographs,
    schedule: Schedule,
    batch_size: int,
    out: Path,
    accelerator: Accelerator | None = None,
    shape: LatentShape = LatentShape(),
) -> AutoencoderKL:
    """Train, or go on training; the averaged autoencoder, its latents standardised, in ``out/vae``."""
    images, _ = photographs.part(held_out=False)
    torch.manual_seed(schedule.seed)
    network = Reconstruction(small_autoencoder(images.shape[-1], shape))
    trainer = Trainer(network, schedule, out / "autoencoder.state.pt", accelerator)
    trainer.resume()
    if trainer.has_made(out / "vae" / SAFETENSORS_WEIGHTS_NAME):
        return AutoencoderKL.from_pretrained(out / "vae").eval()
    here, part = images.to(trainer.device), share(batch_size, trainer.accelerator)

    def loss(reconstruction: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        chosen = torch.randint(len(here), (part,), generator=generator, device=generator.device)
        pixels = mirror_half(to_unit_range(here[chosen]), generator)
        losses: dict[str, Tensor] = reconstruction(pixels)
        return losses

    vae = trainer.run(loss).vae
    standardise_latents(vae, images[:: max(1, len(images) // 4096)])
    if trainer.accelerator.is_main_process:
        vae.save_pretrained(out / "vae")
    trainer.accelerator.wait_for_everyone()
    return vae


def latent_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--latent-channels", type=int, help="default: as many as --downscale")
    parser.add_argument(
        "--downscale",
        type=int,
        choices=WIDTHS,
        help="4 keeps more of a picture, and gives the DiT four times the tokens:\n"
        f"default 4 up to {SMALL_PICTURE} pixels a side, else 8",
    )


def latent_shape(options: argparse.Namespace) -> LatentShape:
    """What the options name, or the usual for pictures of their size."""
    downscale = options.downscale or (4 if options.image_size <= SMALL_PICTURE else 8)
    return LatentShape(options.latent_channels or downscale, downscale)


def main() -> None:
    parser = training_parser(
        __doc__, steps=STEPS, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE
    )
    latent_options(parser)
    options = parser.parse_args()
    accelerator = accelerator_of(options)
    photographs = load_photographs(options.data, options.image_size, options.leave_out)
    schedule = Schedule(options.steps, options.learning_rate, seed=options.seed)
    vae = train(
        photographs,
        schedule,
        options.batch_size,
        options.out,
        accelerator,
        latent_shape(options),
    )
    held_out, _ = photographs.part(held_out=True)
    if accelerator.is_main_process:
        decibels = psnr(reconstruct(vae, held_out), held_out)
        print(f"held-out PSNR {decibels:.2f} dB on {len(held_out)} photographs")


if __name__ == "__main__":
    main()
