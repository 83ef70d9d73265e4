"""The engine's states: what may follow what, and when it has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.runner.runner import ModelRunner
from service.engine.engine import DRAIN, DRAINED, FAILURE, LOADED, Engine, State
from service.engine.watchdog import EngineHung
from service.errors import Unavailable
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from tests.support.faulty import Gate
from tests.support.jobs import due_in
from tests.support.services import PATIENCE_S, load_small_runner, wait_until


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


def test_a_drain_after_a_failure_keeps_its_reason(pipeline_folder: Path) -> None:
    engine = Engine(lambda: load_small_runner(pipeline_folder), AdmissionQueue(100), Metrics())
    engine.start()
    wait_until(lambda: engine.ready)
    engine._give_up()
    engine.drain()
    engine.join(PATIENCE_S)
    assert not engine.alive
    assert engine.state is State.FAILED
    assert isinstance(engine.failure, EngineHung)
    with pytest.raises(Unavailable, match="does not respond"):
        engine.submit(due_in(60))


@pytest.mark.parametrize("loads", [True, False])
def test_a_load_that_ends_after_the_stop_changes_nothing_for_the_caller(
    pipeline_folder: Path, loads: bool
) -> None:
    gate = Gate()

    def load() -> ModelRunner:
        gate()
        if not loads:
            raise ValueError("no such model")
        return load_small_runner(pipeline_folder)

    engine = Engine(load, AdmissionQueue(100), Metrics())
    engine.start()
    assert gate.reached.wait(PATIENCE_S)
    for _ in range(2):
        engine.drain()
    assert engine.ended.done()
    gate.open()
    engine.join(PATIENCE_S)
    assert not engine.alive
    assert not engine.ready
    assert engine.state is (State.STOPPED if loads else State.FAILED)
    with pytest.raises(Unavailable):
        engine.submit(due_in(60))


@pytest.mark.parametrize("event", [LOADED, DRAIN, DRAINED, FAILURE])
@pytest.mark.parametrize("state", State)
def test_no_event_brings_an_engine_back(event: dict[State, State], state: State) -> None:
    order = list(State)
    assert order.index(event.get(state, state)) >= order.index(state)
