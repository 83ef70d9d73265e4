"""What a device did during a load, and the simulation of it."""

from __future__ import annotations

import threading

import pytest

from bench.load import stretches as module
from bench.load.metrics import Samples
from bench.load.stretches import (
    DECODE_SECONDS,
    ROWS,
    TICK_SECONDS,
    TICKS,
    WAITING,
    Stretch,
    watched,
)
from bench.simulate.curve import linear
from bench.simulate.fleet import simulate
from bench.simulate.observed import observed_curve, observed_slowness
from bench.simulate.traffic import arrivals
from service.scheduling.fair import fair_scheduler

BASE_S, ROW_S, HOST_S = 4e-3, 3e-3, 1e-3


def stretch(number: int, ticks: int, rows: int, *, slowness: float = 1.0) -> Stretch:
    """A second, of which the device rests unless the work fills it."""
    return Stretch(
        began=100.0 + number,
        ended=101.0 + number,
        ticks=ticks,
        rows=rows,
        tick_s=slowness * (ticks * BASE_S + rows * ROW_S),
        decode_s=0.02,
        waiting=0.0,
    )


def busy(number: int, ticks: int, rows: int) -> Stretch:
    """A second full of work."""
    seconds = ticks * (BASE_S + HOST_S) + rows * ROW_S + 0.02
    began = 100.0 + number
    return Stretch(
        began, began + seconds, ticks, rows, ticks * BASE_S + rows * ROW_S, 0.02, rows + 1
    )


def test_the_curve_is_found_with_the_time_of_the_host() -> None:
    seen = [stretch(0, 100, 250), stretch(1, 20, 200), busy(2, 10, 300), busy(3, 40, 260)]
    curve = observed_curve(seen, images=8, max_rows=32)
    for rows in (1, 7, 32):
        assert curve.seconds(rows) == pytest.approx(BASE_S + HOST_S + rows * ROW_S)
    assert curve.decode_s == pytest.approx(0.01)


def test_a_line_through_nothing_is_not_below_nothing() -> None:
    seen = [stretch(0, 10, 20), stretch(1, 10, 320, slowness=2.0)]
    curve = observed_curve(seen, images=1, max_rows=32)
    assert 0 < curve.seconds(1) < curve.seconds(32)
    assert curve.seconds(32) == pytest.approx(32 * curve.seconds(1))


def test_a_slow_second_is_slow_in_the_simulation_as_well() -> None:
    seen = [busy(0, 20, 300), busy(1, 10, 310), stretch(2, 10, 100, slowness=3.0), stretch(3, 0, 0)]
    curve = linear("true", 32, BASE_S + HOST_S, ROW_S)
    slowness = observed_slowness(seen, curve, since=99.0)
    assert [slowness(0.0), slowness(2.5)] == pytest.approx([1.0, 1.0])
    assert slowness(3.5) == pytest.approx(3.0, rel=0.1)
    assert slowness(4.5) == slowness(99.0) == 1.0


def test_a_device_half_as_fast_takes_twice_as_long() -> None:
    curve = linear("a", 32, BASE_S, ROW_S)
    requests = arrivals(1.0, 10, 1)
    (fast,) = simulate(curve, requests, fair_scheduler)
    (slow,) = simulate(curve, requests, fair_scheduler, slowness=lambda _: 2.0)
    assert slow.latency == pytest.approx(2 * fast.latency)


def test_a_service_is_read_before_during_and_after_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Counters()
    monkeypatch.setattr(module, "read_metrics", read)
    with watched("http://a", every_s=0.001) as seen:
        assert read.often.wait(60.0)
    assert len(seen) == read.count - 1 >= Counters.OFTEN
    assert all((each.ticks, each.rows, each.waiting) == (1.0, 3.0, 7.0) for each in seen)
    assert [each.ended for each in seen[:-1]] == [each.began for each in seen[1:]]


def test_a_load_shorter_than_a_second_is_seen_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_metrics", Counters())
    with watched("http://a", every_s=3600.0) as seen:
        pass
    assert [each.ticks for each in seen] == [1.0]


class Counters:
    """Of a service that has made one more tick whenever it is asked."""

    OFTEN = 5

    def __init__(self) -> None:
        self.count = 0
        self.often = threading.Event()

    def __call__(self, _: str) -> Samples:
        self.count += 1
        if self.count > self.OFTEN:
            self.often.set()
        return {
            TICKS: float(self.count),
            ROWS: 3.0 * self.count,
            TICK_SECONDS: 0.1 * self.count,
            DECODE_SECONDS: 0.2 * self.count,
            WAITING: 7.0,
        }
