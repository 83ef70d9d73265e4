"""Train the autoencoder's decoder further: twice as wide, then with a discriminator.

    python -m model.train.autoencoder.decoder --data PHOTOGRAPHS --vae RUN/vae --out RUN

The encoder stays fixed, so a DiT trained on its latents works with the new decoder unchanged.

1. The autoencoder is widened and its decoder learns from pixels what a small one has no room for.
   Writes RUN/vae-wide.
2. A loss on pixels alone gives the average of all pictures that a latent could mean, which has no
   texture. So a discriminator is trained along with the decoder, as in VQGAN (Esser et al. 2021,
   section 3.1) and latent diffusion. Writes RUN/vae-textured.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from torch import Tensor, nn

from model.train.autoencoder.network import decoder_layers, reconstruct
from model.train.autoencoder.objectives import AdversarialObjective, PixelObjective
from model.train.autoencoder.widen import widen
from model.train.data.latents import fingerprint, sample_batch, training_latents
from model.train.data.photographs import photographs_from
from model.train.data.pixels import to_unit_range
from model.train.data.similarity import psnr, ssim
from model.train.options import (
    accelerator_from,
    add_batch_size_option,
    add_count_option,
    add_run_option,
    add_training_options,
    add_vae_option,
    command_parser,
    named_errors,
)
from model.train.run_folder import exclusive
from model.train.stages import TEXTURED as TEXTURED_STAGE
from model.train.stages import WIDE as WIDE_STAGE
from model.train.stages import Stages
from model.train.trainer import Loss, Schedule, Trainer, local_batch_size

WIDE, TEXTURED = "vae-wide", "vae-textured"
"""Where the autoencoders are saved, within the run's folder."""

WIDTH_FACTOR = 2

WIDE_STEPS, WIDE_RATE = 4000, 1e-3
TEXTURED_STEPS, TEXTURED_RATE, TEXTURED_BETAS = 4500, 4e-4, (0.5, 0.9)
BATCH_SIZE = 16


STAGES = Stages(
    (WIDE_STAGE, TEXTURED_STAGE),
    {WIDE_STAGE: {"steps": "--wide-steps"}, TEXTURED_STAGE: {"steps": "--textured-steps"}},
)


@dataclass(frozen=True, slots=True)
class Examples:
    """uint8 photographs (N, 3, S, S), labels (N,), and scaled latents (N, 2, C, s, s)."""

    images: Tensor
    labels: Tensor
    latents: Tensor

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Length of both trainings; 0 steps skip one. ``batch_size`` is that of all processes together."""

    wide_steps: int = WIDE_STEPS
    textured_steps: int = TEXTURED_STEPS
    batch_size: int = BATCH_SIZE
    seed: int = 0


def decoding_loss(
    examples: Examples, vae: AutoencoderKL, *, batch_size: int, device: torch.device
) -> Loss:
    """The trainer's loss: the objective on a random batch of latents of this autoencoder."""
    images, labels = examples.images.to(device), examples.labels.to(device)
    shift = vae.config.shift_factor or 0.0
    latents = (examples.latents / vae.config.scaling_factor + shift).to(device)

    def loss(objective: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        chosen, mirrored = sample_batch(latents, batch_size, generator)
        pixels = to_unit_range(images[chosen])
        pixels = torch.where(mirrored.bool()[:, None, None, None], pixels.flip(3), pixels)
        losses: dict[str, Tensor] = objective(latents[chosen, mirrored], pixels, labels[chosen])
        return losses

    return loss


def train(
    examples: Examples,
    vae_folder: Path,
    plan: Plan,
    *,
    out: Path,
    accelerator: Accelerator,
    stages: Stages = STAGES,
) -> Path:
    """Run both trainings on the decoder of a saved autoencoder, or continue where they stopped.

    ``stages`` are those of the command that they belong to.

    Returns:
        The folder of the last autoencoder trained; its encoder gives the same latents.

    Raises:
        ValueError: see `widen`, `local_batch_size` and `Trainer.resume`.
    """
    settings = _settings(examples, plan)
    if plan.wide_steps:
        torch.manual_seed(plan.seed)
        wide = widen(AutoencoderKL.from_pretrained(vae_folder), WIDTH_FACTOR, plan.seed)
        schedule = Schedule(plan.wide_steps, WIDE_RATE, seed=plan.seed)
        trainer = Trainer(
            PixelObjective(wide),
            schedule,
            state_file(out / WIDE),
            accelerator=accelerator,
            stage=stages[WIDE_STAGE],
            settings=settings,
        )
        vae_folder = _train_decoder(
            trainer, wide, examples, batch_size=plan.batch_size, folder=out / WIDE
        )
    if plan.textured_steps:
        torch.manual_seed(plan.seed)
        vae = AutoencoderKL.from_pretrained(vae_folder)
        schedule = Schedule(plan.textured_steps, TEXTURED_RATE, TEXTURED_BETAS, seed=plan.seed)
        objective = AdversarialObjective(vae, examples.num_classes)
        trainer = Trainer(
            objective,
            schedule,
            state_file(out / TEXTURED),
            accelerator=accelerator,
            stage=stages[TEXTURED_STAGE],
            settings=settings | {"wide_steps": plan.wide_steps},
        )
        vae_folder = _train_decoder(
            trainer, vae, examples, batch_size=plan.batch_size, folder=out / TEXTURED
        )
    return vae_folder


def _settings(examples: Examples, plan: Plan) -> dict[str, object]:
    return {
        "batch_size": plan.batch_size,
        "image_size": examples.images.shape[-1],
        "photographs": fingerprint(examples.images, examples.labels),
        "latents": fingerprint(examples.latents),
    }


def state_file(folder: Path) -> Path:
    return folder.with_suffix(".state.pt")


def _train_decoder(
    trainer: Trainer[PixelObjective],
    vae: AutoencoderKL,
    examples: Examples,
    *,
    batch_size: int,
    folder: Path,
) -> Path:
    """Train, then save the autoencoder with the averaged decoder in the folder."""
    accelerator = trainer.accelerator
    trainer.resume()
    if trainer.is_up_to_date(folder / SAFETENSORS_WEIGHTS_NAME):
        return folder
    local = local_batch_size(batch_size, accelerator)
    loss = decoding_loss(examples, vae, batch_size=local, device=trainer.device)
    trained = trainer.run(loss).decode
    for layer, trained_layer in zip(decoder_layers(vae), trained, strict=True):
        layer.load_state_dict(trained_layer.state_dict())
    if accelerator.is_main_process:
        vae.save_pretrained(folder)
    accelerator.wait_for_everyone()
    return folder


def add_decoder_options(parser: argparse.ArgumentParser) -> None:
    add_count_option(
        parser,
        "--wide-steps",
        default=WIDE_STEPS,
        help="training steps of the wider decoder; 0 keeps it narrow",
    )
    add_count_option(
        parser,
        "--textured-steps",
        default=TEXTURED_STEPS,
        help="training steps with the discriminator; 0 skips them",
    )


def main() -> None:
    parser = command_parser("model.train.autoencoder.decoder", __doc__)
    add_training_options(parser)
    add_vae_option(parser)
    add_run_option(parser)
    add_decoder_options(parser)
    add_batch_size_option(parser, BATCH_SIZE)
    options = parser.parse_args()
    accelerator = accelerator_from(options)
    with named_errors(), exclusive(options.out, accelerator):
        run(options, accelerator)


def run(options: argparse.Namespace, accelerator: Accelerator) -> None:
    """Train as the options say, and print how good the decoder is."""
    photographs = photographs_from(options)
    images, labels = photographs.part(held_out=False)
    latents = training_latents(images, options.vae, options.out / "latents.pt", accelerator)
    plan = Plan(
        wide_steps=options.wide_steps,
        textured_steps=options.textured_steps,
        batch_size=options.batch_size,
        seed=options.seed,
    )
    examples = Examples(images, labels, latents)
    folder = train(examples, options.vae, plan, out=options.out, accelerator=accelerator)
    held_out, _ = photographs.part(held_out=True)
    if accelerator.is_main_process:
        rebuilt = reconstruct(AutoencoderKL.from_pretrained(folder).eval(), held_out)
        figures = f"{psnr(rebuilt, held_out):.2f} dB, SSIM {ssim(rebuilt, held_out):.3f}"
        print(f"{folder}: held-out PSNR {figures} on {len(held_out)} photographs")


if __name__ == "__main__":
    main()
