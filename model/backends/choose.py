"""Choosing the network that computes a DiT fastest on the device of its weights."""

from __future__ import annotations

from model.backends.compiled import CompiledNetwork
from model.backends.cpu import FORESEEN_STEPS, CpuNetwork, has_onednn_products
from model.backends.eager import EagerNetwork
from model.backends.network import Network
from model.networks.dit import DiT


def network_for(
    dit: DiT, *, timesteps: int, rows: int, compile: bool = False, consume: bool = False
) -> Network:
    """Build the network for a DiT.

    Args:
        dit: the model, on its device and in its dtype. Do not change its weights afterwards: the
            network may share them, or hold its own copy.
        timesteps: the network answers for whole timesteps 0 .. timesteps - 1.
        rows: the most rows of a call.
        compile: on CUDA, use torch.compile.
        consume: take the weights away from ``dit`` layer by layer, so that they are never in memory
            twice. Afterwards it can no longer be used: only ``pos_embed`` is sure to be left.
    """
    if has_onednn_products(dit):
        kept = 2 * rows * FORESEEN_STEPS
        return CpuNetwork(dit, timesteps=timesteps, kept=kept, consume=consume)
    network = EagerNetwork(dit, timesteps=timesteps, consume=consume)
    on_cuda = dit.pos_embed.device.type == "cuda"
    return CompiledNetwork(network) if compile and on_cuda else network
