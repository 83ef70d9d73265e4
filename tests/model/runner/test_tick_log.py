"""TickLog: ticks take the time that the device needs for them, not that of their launch."""

from __future__ import annotations

import pytest
import torch

from model.runner.tick_log import KEPT, TICKS_AHEAD, TickLog
from tests.model.runner.fake_events import FakeDevice, fake_events


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    return fake_events(monkeypatch)


@pytest.fixture
def log(device: FakeDevice) -> TickLog:
    return TickLog(torch.device("cuda"))


def launch(log: TickLog, device: FakeDevice, rows: int, ms: float) -> None:
    log.wait_for_room()
    with log.timing(rows):
        device.launch(ms)


def test_a_queued_tick_is_reported_with_the_devices_time_when_it_has_finished(
    log: TickLog, device: FakeDevice
) -> None:
    launch(log, device, 2, 10.0)
    launch(log, device, 4, 30.0)
    assert log.finished() == []
    device.now = 15.0
    assert log.finished() == [(2, 0.010)]
    device.now = 40.0
    assert log.finished() == [(4, 0.030)]
    assert log.finished() == []


def test_the_host_runs_two_ticks_ahead(log: TickLog, device: FakeDevice) -> None:
    for _ in range(TICKS_AHEAD):
        launch(log, device, 2, 10.0)
    assert not device.waited_for
    launch(log, device, 2, 10.0)
    assert device.now == 10.0
    assert log.finished() == [(2, 0.010)]


def test_waiting_for_a_tick_lets_the_thread_sleep(log: TickLog, device: FakeDevice) -> None:
    for _ in range(5):
        launch(log, device, 2, 10.0)
    assert device.waited_for
    assert all(event.blocking for event in device.waited_for)


def test_a_tick_that_fails_is_not_logged(log: TickLog, device: FakeDevice) -> None:
    with pytest.raises(RuntimeError, match="injected"), log.timing(2):
        raise RuntimeError("injected")
    device.now = 100.0
    assert log.finished() == []


def test_cleared_ticks_are_not_reported(log: TickLog, device: FakeDevice) -> None:
    launch(log, device, 2, 10.0)
    log.clear()
    device.now = 100.0
    assert log.finished() == []


def test_ticks_on_the_cpu_are_timed_by_the_host_and_finished_at_once() -> None:
    log = TickLog(torch.device("cpu"))
    with log.timing(3):
        pass
    ((rows, seconds),) = log.finished()
    assert rows == 3
    assert 0 <= seconds < 10
    with pytest.raises(RuntimeError), log.timing(2):
        raise RuntimeError
    assert log.finished() == []


def test_ticks_that_nobody_asks_for_are_forgotten() -> None:
    log = TickLog(torch.device("cpu"))
    for rows in range(KEPT + 1):
        with log.timing(rows):
            pass
    assert [tick.rows for tick in log.finished()] == list(range(1, KEPT + 1))
