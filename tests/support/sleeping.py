"""Runners whose every tick takes a fixed time, as on a device of its own: sleeping takes no processor."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from model.backends.network import Network, Pair
from model.device import DeviceLost
from model.runner.runner import ModelRunner
from model.weights.checkpoint import Checkpoint
from service.settings import Settings
from tests.support.faulty import FaultyNetwork
from tests.support.networks import network_of
from tests.support.services import load_small_checkpoint

TICK_S = 0.05
MAX_ROWS = 4


class SleepingNetwork:
    """A network that computes a pass, then sleeps until the pass has taken ``TICK_S``."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @property
    def rows_are_independent(self) -> bool:
        return self._network.rows_are_independent

    @property
    def foreseen_steps(self) -> int:
        return self._network.foreseen_steps

    def foresee(self, pairs: Iterable[Pair]) -> None:
        self._network.foresee(pairs)

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        ends = time.monotonic() + TICK_S
        output = self._network(x, t, y)
        time.sleep(max(0.0, ends - time.monotonic()))
        return output


def load_sleeping(settings: Settings) -> ModelRunner:
    """A runner of the small checkpoint in ``settings.model``, with ticks of ``MAX_ROWS`` rows at most."""
    checkpoint = _named(settings)
    network = SleepingNetwork(network_of(checkpoint, max_rows=MAX_ROWS))
    return ModelRunner(checkpoint, network, max_rows=MAX_ROWS)


def load_doomed(settings: Settings) -> ModelRunner:
    """The same; a tick with the class `tests.support.faulty.BAD_LABEL` finds the device gone."""
    checkpoint = _named(settings)
    sleeping = SleepingNetwork(network_of(checkpoint, max_rows=MAX_ROWS))
    faulty = FaultyNetwork(sleeping, fault=lambda: DeviceLost("injected"))
    return ModelRunner(checkpoint, faulty, max_rows=MAX_ROWS)


def _named(settings: Settings) -> Checkpoint:
    checkpoint = load_small_checkpoint(Path(settings.model))
    return replace(checkpoint, name=settings.model_name or checkpoint.name)
