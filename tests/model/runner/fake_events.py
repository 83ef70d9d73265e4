"""A device of which only the time exists, with events that a test can let come to pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch


class FakeDevice:
    """Works off what is launched, one after the other, as far as `now`. Times in milliseconds.

    ``while_waiting`` is called whenever the host waits.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.busy_until = 0.0
        self.waited_for: list[FakeEvent] = []
        self.while_waiting: Callable[[], object] = lambda: None

    def launch(self, ms: float) -> None:
        self.busy_until = max(self.busy_until, self.now) + ms

    def event(self, enable_timing: bool = False, blocking: bool = False) -> FakeEvent:
        return FakeEvent(self, enable_timing=enable_timing, blocking=blocking)


class FakeEvent:
    """As `torch.cuda.Event`. It cannot tell streams apart: all launches are in one queue."""

    def __init__(self, device: FakeDevice, *, enable_timing: bool, blocking: bool) -> None:
        self.blocking = blocking
        self._device = device
        self._enable_timing = enable_timing
        self._at: float | None = None

    def record(self) -> None:
        self._at = max(self._device.busy_until, self._device.now)

    def query(self) -> bool:
        return self._recorded_at <= self._device.now

    def synchronize(self) -> None:
        self._device.waited_for.append(self)
        self._device.while_waiting()
        self._device.now = max(self._device.now, self._recorded_at)

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self._enable_timing
        assert end._enable_timing
        assert end.query(), "the time of an unfinished event"
        return end._recorded_at - self._recorded_at

    @property
    def _recorded_at(self) -> float:
        assert self._at is not None
        return self._at


def fake_events(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """Put events of a fake device in the place of torch's."""
    device = FakeDevice()
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    return device
