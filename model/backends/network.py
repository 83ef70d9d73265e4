"""Network: the forward pass that the runner calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

Pair = tuple[float, int]
"""A timestep and a class label."""


class Network(Protocol):
    """A DiT's forward pass on one device, for inference only.

    On CUDA, a call must be capturable as a graph: it launches kernels and never waits for them.
    """

    @property
    def rows_are_independent(self) -> bool:
        """Whether a row's bits never depend on the other rows of the call."""
        ...

    @property
    def foreseen_steps(self) -> int:
        """How many steps of an image `foresee` should be given at a time; 0 if it does nothing."""
        ...

    def foresee(self, pairs: Iterable[Pair]) -> None:
        """Compute ahead, together, what the coming calls need for these pairs."""
        ...

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Latents (N, C, S, S), timesteps (N,), labels (N,) -> (N, out_channels, S, S).

        The timesteps are whole, or among those that the network was built for.
        """
        ...
