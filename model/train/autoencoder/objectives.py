"""Objectives: modules that hold the networks being trained and return their loss on a batch."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.func import functional_call

from model.train.autoencoder.discriminator import PatchDiscriminator, hinge_loss
from model.train.autoencoder.network import decoder_layers

KL_WEIGHT = 1e-6
ADVERSARIAL_WEIGHT = 0.0125


def pixel_losses(rebuilt: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    """L1 on pixels (N, 3, S, S) and on the differences between neighbours, across and down."""
    across = F.l1_loss(rebuilt.diff(dim=3), pixels.diff(dim=3))
    down = F.l1_loss(rebuilt.diff(dim=2), pixels.diff(dim=2))
    return {"l1": F.l1_loss(rebuilt, pixels), "gradient": across + down}


class AutoencoderObjective(nn.Module):
    """Reconstruction and KL losses of an autoencoder on pixels (N, 3, S, S) in -1 .. 1.

    The pixel differences give weight to edges and textures; the KL term is tiny, as in latent
    diffusion (Rombach et al. 2022, section 3.1).
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The loss to minimise under ``"loss"``, and its terms."""
        with torch.autocast(pixels.device.type, torch.bfloat16):
            posterior = self.vae.encode(pixels).latent_dist
            rebuilt = self.vae.decode(posterior.sample()).sample
        losses = pixel_losses(rebuilt.float(), pixels) | {"kl": posterior.kl().mean()}
        loss = losses["l1"] + losses["gradient"] + KL_WEIGHT * losses["kl"]
        return losses | {"loss": loss}


class PixelObjective(nn.Module):
    """Reconstruction loss of a decoder alone, on fixed latents."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.decode = nn.Sequential(*map(copy.deepcopy, decoder_layers(vae)))

    def forward(self, latents: Tensor, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss to minimise under ``"loss"``, and its terms.

        Args:
            latents: unscaled, (N, C, s, s).
            pixels: their photographs (N, 3, S, S) in -1 .. 1.
            labels: classes (N,).
        """
        with torch.autocast(pixels.device.type, torch.bfloat16):
            decoded = self.decode(latents).float()
        losses = pixel_losses(decoded, pixels)
        return losses | {"loss": losses["l1"] + losses["gradient"]}


class AdversarialObjective(PixelObjective):
    """Reconstruction and adversarial losses of a decoder, and the loss of its discriminator."""

    def __init__(self, vae: AutoencoderKL, num_classes: int) -> None:
        super().__init__(vae)
        self.discriminator = PatchDiscriminator(num_classes)

    def forward(self, latents: Tensor, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """As `PixelObjective.forward`, for decoder and discriminator in one step.

        The decoder's loss treats the discriminator's weights as constants; the discriminator's
        loss treats the decoded pictures as constants.
        """
        with torch.autocast(pixels.device.type, torch.bfloat16):
            decoded = self.decode(latents).float()
            fixed = {name: w.detach() for name, w in self.discriminator.named_parameters()}
            decoded_logits = functional_call(self.discriminator, fixed, (decoded, labels)).float()
            real_logits = self.discriminator(pixels, labels).float()
            fake_logits = self.discriminator(decoded.detach(), labels).float()
        losses = pixel_losses(decoded, pixels)
        losses["adversarial"] = -decoded_logits.mean()
        losses["discriminator"] = hinge_loss(real_logits, fake_logits)
        loss = losses["l1"] + losses["gradient"] + losses["discriminator"]
        return losses | {"loss": loss + ADVERSARIAL_WEIGHT * losses["adversarial"]}
