"""Sampling: a DiT brought, for good, into the form that samples fastest on its device."""

from __future__ import annotations

import torch

from model.backends.cpu import FORESEEN_STEPS, PackedDiT, packable
from model.networks.dit import DiT
from model.networks.embedders import TabulatedTimesteps


@torch.no_grad()
def prepare_for_sampling(dit: DiT, timesteps: int, *, rows: int) -> PackedDiT | None:
    """Change ``dit`` in place: from then on it answers for whole timesteps below ``timesteps``.

    Where the products can be packed, the packed network answers in its place, keeps the conditioning
    of the coming steps for twice ``rows`` rows, and is returned; the weights are then no longer
    there to be read, moved or trained. Doing it again changes nothing.
    """
    if isinstance(dit.stand_in, PackedDiT):
        return dit.stand_in
    if packable(dit):
        dit.stand_in = PackedDiT(dit, timesteps, kept=2 * rows * FORESEEN_STEPS)
        return dit.stand_in
    if not isinstance(dit.t_embedder, TabulatedTimesteps):
        dit.t_embedder = TabulatedTimesteps(dit.t_embedder, timesteps)  # type: ignore[assignment]
    return None
