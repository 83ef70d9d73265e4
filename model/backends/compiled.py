"""Compiled: a network through torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from model.backends.network import Network, Pair

ROW_COUNTS = 64
"""Row counts for each of which a graph may be compiled."""


class CompiledNetwork:
    """A network on CUDA, compiled at its first call with each row count.

    Not for the CPU: inductor cannot take the packed products, and they are as fast as what it makes
    of the plain ones.
    """

    rows_are_independent = False

    def __init__(self, network: Network) -> None:
        torch._dynamo.config.recompile_limit = max(ROW_COUNTS, torch._dynamo.config.recompile_limit)
        self._network = network
        self._forward: Callable[..., Tensor] = torch.compile(network, dynamic=False)

    @property
    def foreseen_steps(self) -> int:
        return self._network.foreseen_steps

    def foresee(self, pairs: Iterable[Pair]) -> None:
        self._network.foresee(pairs)

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self._forward(x, t, y)
