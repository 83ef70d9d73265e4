"""Runners whose every tick takes a fixed time, as on a device of its own: sleeping takes no processor."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from model.device import DeviceLost
from model.runner.runner import ModelRunner
from model.weights.checkpoint import Checkpoint
from service.settings import Settings
from tests.support.faulty import FaultyNetwork
from tests.support.networks import WrappedNetwork, network_of
from tests.support.services import load_small_checkpoint

TICK_S = 0.05
MAX_ROWS = 4


class SleepingNetwork(WrappedNetwork):
    """A network that computes a pass, then sleeps until the pass has taken ``TICK_S``."""

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
