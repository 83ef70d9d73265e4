"""The losses of decoder and discriminator."""

from __future__ import annotations

import torch
from torch import nn

from model.train.autoencoder.discriminator import PatchDiscriminator, hinge_loss
from model.train.autoencoder.network import small_autoencoder
from model.train.autoencoder.objectives import AdversarialObjective


def test_decoder_and_discriminator_each_learn_only_from_their_own_loss() -> None:
    torch.manual_seed(1)
    objective = AdversarialObjective(small_autoencoder(32), num_classes=2)
    latents, pixels = torch.randn(2, 4, 8, 8), torch.rand(2, 3, 32, 32) * 2 - 1
    losses = objective(latents, pixels, torch.tensor([0, 1]))
    decoder_weights = list(objective.decode.parameters())
    discriminator_weights = list(objective.discriminator.parameters())

    def reached(term: str, weights: list[nn.Parameter]) -> int:
        gradients = torch.autograd.grad(losses[term], weights, retain_graph=True, allow_unused=True)
        return sum(gradient is not None for gradient in gradients)

    for term in ("l1", "gradient", "adversarial"):
        assert reached(term, decoder_weights) == len(decoder_weights), term
        assert reached(term, discriminator_weights) == 0, term
    assert reached("discriminator", decoder_weights) == 0
    assert reached("discriminator", discriminator_weights) == len(discriminator_weights)


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
