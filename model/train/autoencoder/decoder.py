"""The decoder's own trainings: twice as wide, then textured, from the same latents.

    python -m model.train.decoder --data PHOTOGRAPHS --vae RUN/vae --out RUN

The encoder rests, so a DiT that has learnt from its latents draws with the new decoder at once. First the
autoencoder is made wider, and its decoder learns from pixels what a small one has no room for (RUN/vae-wide).
But a loss on pixels alone makes the mean of all that a latent may stand for, and that mean has no texture:
then a discriminator that learns beside the decoder asks for pictures that could be photographs, as in VQGAN
(Esser et al. 2021, section 3.1) and latent diffusion (RUN/vae-textured).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from torch import Tensor, nn

from model.train.autoencoder.autoencoder import reconstruct, to_unit_range
from model.train.autoencoder.learners import PixelDecoder, Rivals, decoding_parts
from model.train.autoencoder.widen import widened
from model.train.data.latents import draw, training_latents
from model.train.data.photographs import load_photographs
from model.train.evaluation.similarity import psnr, ssim
from model.train.options import accelerator_of, command_parser, data_options
from model.train.trainer import Loss, Schedule, Trainer, share

WIDE, TEXTURED = "vae-wide", "vae-textured"
"""Where the autoencoders go, within the run's folder."""

WIDTH_FACTOR = 2

WIDE_STEPS, WIDE_RATE = 4000, 1e-3
TEXTURED_STEPS, TEXTURED_RATE, TEXTURED_BETAS = 4500, 4e-4, (0.5, 0.9)
BATCH_SIZE = 16


@dataclass(frozen=True, slots=True)
class Examples:
    """uint8 photographs (N, 3, S, S), labels (N,), and latents (N, 2, C, s, s) as the DiT sees them."""

    images: Tensor
    labels: Tensor
    latents: Tensor

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How long the decoder learns; 0 steps leave that training out."""

    wide_steps: int = WIDE_STEPS
    textured_steps: int = TEXTURED_STEPS
    batch_size: int = BATCH_SIZE  # of all processes
    seed: int = 0


def decoding_loss(
    examples: Examples, vae: AutoencoderKL, batch_size: int, device: torch.device
) -> Loss:
    """Return the trainer's loss for a decoder of this autoencoder's latents."""
    images, labels = examples.images.to(device), examples.labels.to(device)
    shift = vae.config.shift_factor or 0.0
    latents = (examples.latents / vae.config.scaling_factor + shift).to(device)

    def loss(learner: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        chosen, mirrored = draw(latents, batch_size, generator)
        pixels = to_unit_range(images[chosen])
        pixels = torch.where(mirrored.bool()[:, None, None, None], pixels.flip(3), pixels)
        losses: dict[str, Tensor] = learner(latents[chosen, mirrored], pixels, labels[chosen])
        return losses

    return loss


def train(
    examples: Examples, vae: Path, plan: Plan, out: Path, accelerator: Accelerator | None = None
) -> Path:
    """Train, or go on training, the decoder of the autoencoder in a folder.

    Returns:
        The folder of the autoencoder that came of it: its encoder gives the same latents.

    Raises:
        ValueError: see ``widened``, and ``share`` for the batch.
    """
    if plan.wide_steps:
        torch.manual_seed(plan.seed)
        wide = widened(AutoencoderKL.from_pretrained(vae), WIDTH_FACTOR, plan.seed)
        schedule = Schedule(plan.wide_steps, WIDE_RATE, seed=plan.seed)
        vae = _train(PixelDecoder(wide), wide, examples, schedule, plan, out / WIDE, accelerator)
    if plan.textured_steps:
        torch.manual_seed(plan.seed)
        loaded = AutoencoderKL.from_pretrained(vae)
        schedule = Schedule(plan.textured_steps, TEXTURED_RATE, TEXTURED_BETAS, seed=plan.seed)
        rivals = Rivals(loaded, examples.num_classes)
        vae = _train(rivals, loaded, examples, schedule, plan, out / TEXTURED, accelerator)
    return vae


def _train(
    learner: PixelDecoder,
    vae: AutoencoderKL,
    examples: Examples,
    schedule: Schedule,
    plan: Plan,
    folder: Path,
    accelerator: Accelerator | None,
) -> Path:
    """Train the learner; the autoencoder goes to the folder with the averaged decoder in it."""
    trainer = Trainer(learner, schedule, folder.with_suffix(".state.pt"), accelerator)
    trainer.resume()
    if trainer.has_made(folder / SAFETENSORS_WEIGHTS_NAME):
        return folder
    part = share(plan.batch_size, trainer.accelerator)
    decode = trainer.run(decoding_loss(examples, vae, part, trainer.device)).decode
    for old, new in zip(decoding_parts(vae), decode, strict=True):
        old.load_state_dict(new.state_dict())
    if trainer.accelerator.is_main_process:
        vae.save_pretrained(folder)
    trainer.accelerator.wait_for_everyone()
    return folder


def main() -> None:
    parser = command_parser(__doc__)
    data_options(parser)
    parser.add_argument("--vae", type=Path, required=True, help="the trained autoencoder's folder")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder; resumes there")
    parser.add_argument("--wide-steps", type=int, default=WIDE_STEPS, help="0: stay as narrow")
    parser.add_argument(
        "--textured-steps", type=int, default=TEXTURED_STEPS, help="0: no discriminator"
    )
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="of all processes")
    options = parser.parse_args()
    accelerator = accelerator_of(options)
    photographs = load_photographs(options.data, options.image_size, options.leave_out)
    images, labels = photographs.part(held_out=False)
    latents = training_latents(images, options.vae, options.out / "latents.pt", accelerator)
    plan = Plan(options.wide_steps, options.textured_steps, options.batch_size, options.seed)
    examples = Examples(images, labels, latents)
    folder = train(examples, options.vae, plan, options.out, accelerator)
    held_out, _ = photographs.part(held_out=True)
    if accelerator.is_main_process:
        rebuilt = reconstruct(AutoencoderKL.from_pretrained(folder).eval(), held_out)
        figures = f"{psnr(rebuilt, held_out):.2f} dB, SSIM {ssim(rebuilt, held_out):.3f}"
        print(f"{folder}: held-out PSNR {figures} on {len(held_out)} photographs")


if __name__ == "__main__":
    main()
