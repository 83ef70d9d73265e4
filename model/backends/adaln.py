"""adaLN: what backends make of a DiT's conditioning: its products joined, its embeddings tabulated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.networks.dit import DiT


def joined_products(dit: DiT, *, consume: bool) -> tuple[Tensor, Tensor]:
    """Weight (V D, D) and bias (V D,) of all adaLN layers, one below the other in their order.

    ``consume`` empties the layers.
    """
    weight = torch.cat([each.linear.weight.detach() for each in dit.modulations])
    bias = torch.cat([each.linear.bias.detach() for each in dit.modulations])
    if consume:
        for each in dit.modulations:
            each.to("meta")
    return weight, bias


class TabulatedEmbeddings(nn.Module):
    """Timesteps (N,) and labels (N,) -> conditioning (N, D), both looked up.

    The vectors of timesteps 0 .. timesteps - 1 and of the ``fractional`` ones are computed here,
    once. The label table is shared with the DiT.
    """

    timesteps: Tensor
    labels: Tensor
    known: Tensor

    def __init__(self, dit: DiT, timesteps: int, fractional: Sequence[float] = ()) -> None:
        super().__init__()
        device = dit.pos_embed.device
        whole = torch.arange(timesteps, dtype=torch.float32, device=device)
        known, vectors = whole, dit.t_embedder(whole).detach()  # (T,), (T, D)
        if fractional:
            between = torch.tensor(fractional, device=device)
            known, order = torch.cat([whole, between]).sort()
            # Apart, so that the whole ones' bits are those of a network without the others.
            vectors = torch.cat([vectors, dit.t_embedder(between).detach()])[order]
        self._all_whole = not fractional
        self.register_buffer("known", known)  # ascending
        self.register_buffer("timesteps", vectors)
        self.register_buffer("labels", dit.y_embedder.embedding_table.weight.detach())

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        places = t.long() if self._all_whole else torch.searchsorted(self.known, t)
        return self.timesteps.index_select(0, places) + self.labels.index_select(0, y)
