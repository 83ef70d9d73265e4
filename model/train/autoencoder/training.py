"""The autoencoder's training: photographs -> a small AutoencoderKL with standardised latents."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from torch import Tensor, nn

from model.train.autoencoder.network import LatentShape, small_autoencoder, standardise_latents
from model.train.autoencoder.objectives import AutoencoderObjective
from model.train.data.latents import fingerprint
from model.train.data.photographs import Photographs
from model.train.data.pixels import mirror_half, to_unit_range
from model.train.stages import AUTOENCODER, Stage
from model.train.trainer import Loss, Schedule, Trainer, local_batch_size

STATE_FILE = "autoencoder.state.pt"
STEPS, BATCH_SIZE, LEARNING_RATE = 12000, 16, 1.5e-3

FOLDER = "vae"
"""Where the trained autoencoder is saved, within the run's folder."""


def train(
    photographs: Photographs,
    schedule: Schedule,
    *,
    batch_size: int,
    out: Path,
    accelerator: Accelerator,
    shape: LatentShape,
    stage: Stage | None = None,
) -> AutoencoderKL:
    """Train an autoencoder, or continue an interrupted training.

    Args:
        photographs: its training part is used.
        schedule: the optimiser's settings.
        batch_size: of all processes together.
        out: the run's folder, which gets the trainer's state and the autoencoder in ``vae``.
        accelerator: the devices and processes.
        shape: of the latents.
        stage: this training's place among those of a command.

    Returns:
        The averaged autoencoder, its latents standardised.

    Raises:
        ValueError: see `local_batch_size` and `Trainer.resume`.
    """
    images, _ = photographs.part(held_out=False)
    torch.manual_seed(schedule.seed)
    objective = AutoencoderObjective(small_autoencoder(images.shape[-1], shape))
    trainer = Trainer(
        objective,
        schedule,
        out / STATE_FILE,
        accelerator=accelerator,
        stage=stage or Stage(AUTOENCODER),
        settings={
            "batch_size": batch_size,
            "image_size": images.shape[-1],
            "downscale": shape.downscale,
            "latent_channels": shape.channels,
            "photographs": fingerprint(images),
        },
    )
    trainer.resume()
    folder = out / FOLDER
    if trainer.is_up_to_date(folder / SAFETENSORS_WEIGHTS_NAME):
        return AutoencoderKL.from_pretrained(folder).eval()
    local = local_batch_size(batch_size, accelerator)
    vae = trainer.run(reconstruction_loss(images.to(trainer.device), local)).vae
    standardise_latents(vae, images[:: max(1, len(images) // 4096)])
    if accelerator.is_main_process:
        vae.save_pretrained(folder)
    accelerator.wait_for_everyone()
    return vae


def reconstruction_loss(images: Tensor, batch_size: int) -> Loss:
    """The trainer's loss: the objective on a random batch, half of it mirrored."""

    def loss(objective: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        batch = (batch_size,)
        chosen = torch.randint(len(images), batch, generator=generator, device=generator.device)
        losses: dict[str, Tensor] = objective(mirror_half(to_unit_range(images[chosen]), generator))
        return losses

    return loss
