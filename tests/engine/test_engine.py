"""The engine's states: what may follow what, and when it has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.runner.runner import ModelRunner
from service.engine.engine import Engine, State
from service.errors import Unavailable
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from tests.support.faulty import Gate
from tests.support.services import PATIENCE_S, load_small_runner


def test_a_start_that_is_given_up_ends_at_once_and_for_good(pipeline_folder: Path) -> None:
    gate = Gate()

    def load() -> ModelRunner:
        gate()
        return load_small_runner(pipeline_folder)

    engine = Engine(load, AdmissionQueue(100), Metrics())
    engine.start()
    assert gate.reached.wait(PATIENCE_S)
    with pytest.raises(Unavailable, match="starting"):
        _ = engine.model_info
    engine.drain()
    assert engine.ended.done(), "it waits for the model to load"
    gate.open()
    engine.join(PATIENCE_S)
    assert not engine.alive
    assert engine.state is State.STOPPED
    assert not engine.was_ready
