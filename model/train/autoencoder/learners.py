"""Learners: a decoder and what it learns from, pixels alone or a discriminator beside them."""

from __future__ import annotations

import copy

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.func import functional_call

from model.train.autoencoder.autoencoder import pixel_losses
from model.train.autoencoder.discriminator import PatchDiscriminator, hinge_loss

ADVERSARIAL_WEIGHT = 0.0125


class PixelDecoder(nn.Module):
    """A decoder and its loss on pixels.

    Like its subclass it takes unscaled latents (N, C, s, s), photographs (N, 3, S, S) in -1 .. 1 and
    labels (N,), and gives the loss, whole and in terms.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.decode = nn.Sequential(*map(copy.deepcopy, decoding_parts(vae)))

    def forward(self, latents: Tensor, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        with torch.autocast(pixels.device.type, torch.bfloat16):
            decoded = self.decode(latents).float()
        losses = pixel_losses(decoded, pixels)
        return losses | {"loss": losses["l1"] + losses["gradient"]}


class Rivals(PixelDecoder):
    """A decoder and the discriminator of its pictures, with both their losses."""

    def __init__(self, vae: AutoencoderKL, num_classes: int) -> None:
        super().__init__(vae)
        self.discriminator = PatchDiscriminator(num_classes)

    def forward(self, latents: Tensor, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One step serves both: the decoder's loss meets the discriminator's weights as constants, the
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


def decoding_parts(vae: AutoencoderKL) -> list[nn.Module]:
    """What stands between an autoencoder's latents and its pictures, in order."""
    return [part for part in (vae.post_quant_conv, vae.decoder) if part is not None]
