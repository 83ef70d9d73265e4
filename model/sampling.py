"""Sampling: a DiT brought, for good, into the form that samples fastest on its device."""

from __future__ import annotations

import torch

from model.dit import DiT
from model.embedders import TabulatedTimesteps
from model.packed import FORESEEN_STEPS, PackedDiT, packable


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
