"""Networks and autoencoders that fail as they are told, for the runner's public seams."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.networks.vae import Vae
from model.runner.tick import Network
from model.weights.checkpoint import Checkpoint
from tests.support.services import PATIENCE_S

BAD_LABEL = 4
HUGE = 1e4
"""Far beyond every latent that the small models come to by themselves."""

Fault = Callable[[], BaseException]


class FaultyNetwork:
    """A network that does something else where a row of ``BAD_LABEL`` is among the rows.

    Args:
        fault: makes what it raises then.
        fill: what it answers in that row.
        most_rows: with more, whatever their labels, it is out of memory.
        first: called before every pass that holds such a row.
        spared: how many such passes it makes as if nothing were wrong.
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
        self._network = network
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
    """An autoencoder that raises where a huge latent is among the latents."""

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
    """Something that blocks whoever comes by until it is opened."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self.reached = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self._opened.wait(PATIENCE_S), "the test never opened this gate"

    def open(self) -> None:
        self._opened.set()
