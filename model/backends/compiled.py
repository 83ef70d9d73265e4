"""Compiled: the forward pass through torch.compile."""

from __future__ import annotations

from typing import cast

import torch

from model.networks.dit import DiT
from model.runner.tick import Network

ROW_COUNTS = 64
"""Row counts for which a graph of their own may be compiled."""


def compiled(dit: DiT) -> Network:
    """The network, compiled at its first call with each row count.

    It is for CUDA. On a CPU the packed products are as fast as what inductor makes of the plain
    ones, and it cannot take the packed ones.
    """
    torch._dynamo.config.recompile_limit = max(ROW_COUNTS, torch._dynamo.config.recompile_limit)
    return cast(Network, torch.compile(dit, dynamic=False))
