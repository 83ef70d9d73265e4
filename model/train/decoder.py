"""The decoder's second training: textures, from the same latents.

    python -m model.train.decoder --data PHOTOGRAPHS --vae RUN/vae --out RUN

A loss on pixels alone makes the mean of all that a latent may stand for, and that mean has no texture. A
discriminator that learns beside the decoder asks for pictures that could be photographs, as in VQGAN
(Esser et al. 2021, section 3.1) and latent diffusion. The encoder rests, so a DiT that has learnt from
its latents draws with the new decoder at once. The autoencoder goes to RUN/vae-textured.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from torch import Tensor, nn
from torch.func import functional_call

from model.train.autoencoder import pixel_losses, reconstruct, to_unit_range
from model.train.discriminator import PatchDiscriminator, hinge_loss
from model.train.latents import draw, training_latents
from model.train.measures import psnr, ssim
from model.train.options import accelerator_of, training_parser
from model.train.photographs import load_photographs
from model.train.trainer import Loss, Schedule, Trainer, share

FOLDER = "vae-textured"
"""Where the autoencoder goes, within the run's folder."""

ADVERSARIAL_WEIGHT = 0.0125

STEPS, BATCH_SIZE, LEARNING_RATE = 4000, 16, 4e-4
BETAS = (0.5, 0.9)


class Rivals(nn.Module):
    """A decoder and the discriminator of its pictures, with both their losses."""

    def __init__(self, vae: AutoencoderKL, num_classes: int) -> None:
        super().__init__()
        self.decode = nn.Sequential(*map(copy.deepcopy, _decoding_parts(vae)))
        self.discriminator = PatchDiscriminator(num_classes)

    def forward(self, latents: Tensor, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Unscaled latents (N, C, s, s), photographs (N, 3, S, S) in -1 .. 1 -> the loss and its terms.

        One step serves both: the decoder's loss meets the discriminator's weights as constants, the
        discriminator's the decoded pictures.
        """
        with torch.autocast(pixels.device.type, torch.bfloat16):
            decoded = self.decode(latents).float()
            fixed = {name: w.detach() for name, w in self.discriminator.named_parameters()}
            likeness = functional_call(self.discriminator, fixed, (decoded, labels)).float()
            of_photographs = self.discriminator(pixels, labels).float()
            of_decoded = self.discriminator(decoded.detach(), labels).float()
        losses = pixel_losses(decoded, pixels)
        losses["adversarial"] = -likeness.mean()
        losses["discriminator"] = hinge_loss(of_photographs, of_decoded)
        loss = losses["l1"] + losses["gradient"] + losses["discriminator"]
        return losses | {"loss": loss + ADVERSARIAL_WEIGHT * losses["adversarial"]}


def _decoding_parts(vae: AutoencoderKL) -> list[nn.Module]:
    return [part for part in (vae.post_quant_conv, vae.decoder) if part is not None]


def decoding_loss(images: Tensor, latents: Tensor, labels: Tensor, batch_size: int) -> Loss:
    """Return the trainer's loss on uint8 photographs (N, 3, S, S) and latents (N, 2, C, s, s)."""

    def loss(rivals: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        chosen, mirrored = draw(latents, batch_size, generator)
        pixels = to_unit_range(images[chosen])
        pixels = torch.where(mirrored.bool()[:, None, None, None], pixels.flip(3), pixels)
        losses: dict[str, Tensor] = rivals(latents[chosen, mirrored], pixels, labels[chosen])
        return losses

    return loss


def train(
    images: Tensor,
    latents: Tensor,
    labels: Tensor,
    vae: AutoencoderKL,
    schedule: Schedule,
    batch_size: int,
    out: Path,
    accelerator: Accelerator | None = None,
) -> AutoencoderKL:
    """Train, or go on training, on photographs and their latents, scaled as the DiT sees them.

    Returns:
        The autoencoder with its averaged new decoder, which is also saved in ``out / FOLDER``.
    """
    torch.manual_seed(schedule.seed)
    rivals = Rivals(vae, int(labels.max()) + 1)
    trainer = Trainer(rivals, schedule, out / "decoder.state.pt", accelerator)
    trainer.resume()
    if trainer.has_made(out / FOLDER / SAFETENSORS_WEIGHTS_NAME):
        return AutoencoderKL.from_pretrained(out / FOLDER).eval()
    unscaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    device, part = trainer.device, share(batch_size, trainer.accelerator)
    loss = decoding_loss(images.to(device), unscaled.to(device), labels.to(device), part)
    decode = trainer.run(loss).decode
    for old, new in zip(_decoding_parts(vae), decode, strict=True):
        old.load_state_dict(new.state_dict())
    if trainer.accelerator.is_main_process:
        vae.save_pretrained(out / FOLDER)
    trainer.accelerator.wait_for_everyone()
    return vae


def main() -> None:
    parser = training_parser(
        __doc__, steps=STEPS, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE
    )
    parser.add_argument("--vae", type=Path, required=True, help="the trained autoencoder's folder")
    options = parser.parse_args()
    accelerator = accelerator_of(options)
    photographs = load_photographs(options.data, options.image_size)
    images, labels = photographs.part(held_out=False)
    latents = training_latents(images, options.vae, options.out / "latents.pt", accelerator)
    vae = AutoencoderKL.from_pretrained(options.vae).eval()
    schedule = Schedule(options.steps, options.learning_rate, betas=BETAS, seed=options.seed)
    vae = train(
        images, latents, labels, vae, schedule, options.batch_size, options.out, accelerator
    )
    held_out, _ = photographs.part(held_out=True)
    if accelerator.is_main_process:
        rebuilt = reconstruct(vae, held_out)
        figures = f"{psnr(rebuilt, held_out):.2f} dB, SSIM {ssim(rebuilt, held_out):.3f}"
        print(f"held-out PSNR {figures} on {len(held_out)} photographs")


if __name__ == "__main__":
    main()
