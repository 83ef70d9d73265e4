"""Networks and autoencoders with injected faults, to be passed to a runner."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.backends.network import Network
from model.networks.vae import Vae
from model.weights.checkpoint import Checkpoint
from tests.support.networks import WrappedNetwork
from tests.support.services import PATIENCE_S

BAD_LABEL = 4
HUGE = 1e4
"""Far larger than any latent of the small models."""

Fault = Callable[[], BaseException]


class FaultyNetwork(WrappedNetwork):
    """A network that misbehaves in a pass with rows of ``BAD_LABEL``.

    Args:
        network: computes all other passes.
        fault: makes the exception that a bad pass raises.
        fill: the answer in the bad rows, if nothing is raised.
        most_rows: a pass of more rows, whatever their labels, runs out of memory.
        first: called before every bad pass.
        spared: the number of bad passes that are computed normally first.
    """

    def __init__(
        self,
        network: Network,
        *,
        fault: Fault | None = None,
        fill: float | None = None,
        most_rows: int = 1_000_000,
        first: Callable[[], object] = lambda: None,
        spared: int = 0,
    ) -> None:
        super().__init__(network)
        self._fault = fault
        self._fill = fill
        self._first = first
        self.most_rows = most_rows
        self._spared = spared
        self.faults = 0

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        if len(x) > self.most_rows:
            self.faults += 1
            raise torch.OutOfMemoryError(f"{len(x)} rows, injected")
        bad = y == BAD_LABEL
        if not bad.any():
            return self._network(x, t, y)
        self._first()
        if self._spared > 0:
            self._spared -= 1
            return self._network(x, t, y)
        self.faults += 1
        if self._fault is not None:
            raise self._fault()
        output = self._network(x, t, y).clone()
        if self._fill is not None:
            output[bad] = self._fill
        return output


@dataclass(frozen=True, slots=True)
class FaultyVae(Vae):
    """An autoencoder that raises if any latent is huge."""

    fault: Fault

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        if latents.abs().max() > HUGE:
            raise self.fault()
        return Vae.decode(self, latents)


def with_faulty_vae(checkpoint: Checkpoint, fault: Fault) -> Checkpoint:
    vae = checkpoint.vae
    faulty = FaultyVae(
        module=vae.module,
        latent_channels=vae.latent_channels,
        downscale_factor=vae.downscale_factor,
        scaling_factor=vae.scaling_factor,
        shift_factor=vae.shift_factor,
        fault=fault,
    )
    return replace(checkpoint, vae=faulty)


class Gate:
    """A callable that blocks until the gate is opened."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self.reached = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self._opened.wait(PATIENCE_S), "the test never opened this gate"

    def open(self) -> None:
        self._opened.set()
