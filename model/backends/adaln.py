"""adaLN: what backends make of a DiT's conditioning: its products joined, its embeddings tabulated."""

from __future__ import annotations

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
    """Whole timesteps (N,) and labels (N,) -> conditioning (N, D), both looked up.

    The vectors of timesteps 0 .. timesteps - 1 are computed here, once. The label table is shared
    with the DiT.
    """

    timesteps: Tensor
    labels: Tensor

    def __init__(self, dit: DiT, timesteps: int) -> None:
        super().__init__()
        t = torch.arange(timesteps, dtype=torch.float32, device=dit.pos_embed.device)
        self.register_buffer("timesteps", dit.t_embedder(t).detach())  # (timesteps, D)
        self.register_buffer("labels", dit.y_embedder.embedding_table.weight.detach())

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.timesteps.index_select(0, t.long()) + self.labels.index_select(0, y)
