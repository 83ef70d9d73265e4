"""A simulated load and the real service: what the two have in common."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from bench.load import fleet
from bench.load.clients import Outcome
from bench.load.fleet import fleet_loop
from bench.load.workload import Ask, mixed, uniform
from bench.peers.sleeping import HIDDEN_S, SleepingRunner
from bench.simulate.curve import linear
from bench.simulate.traffic import requests_of, scheduled
from model.sampling.noise import ImageNoise
from tests.support.jobs import trajectory


def test_a_schedule_asks_the_simulation_for_the_same_rows_at_the_same_times() -> None:
    curve = linear("a", 32, 1e-3, 1e-3)
    asks = mixed(200, seed=1, timeout_s=9.0)
    schedule = scheduled(curve, asks, 0.8)
    requests = requests_of(schedule)
    assert [each.at for each in requests] == [at for at, _ in schedule]
    assert [each.steps for each in requests] == [ask.num_sampling_steps for ask in asks]
    assert [each.rows[0] for each in requests] == [1 if a.cfg_scale == 1.0 else 2 for a in asks]
    work = sum(sum(each.rows) for each in requests)
    assert work / requests[-1].at / curve.row_steps_per_s == pytest.approx(0.8, rel=0.2)


def test_a_sleeping_device_is_busy_for_what_the_curve_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host's work between two ticks is hidden behind them, but a rest is not."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    runner = SleepingRunner(None, linear("a", 8, 1.0, 0.5))  # type: ignore[arg-type]
    flight = runner.join(trajectory([2, 2, 2]))
    assert isinstance(flight.noise, ImageNoise)
    assert runner.tick([flight]) == 2
    assert now[0] == 102.0
    now[0] += HIDDEN_S / 2
    runner.tick([flight])
    assert now[0] == 104.0
    now[0] += 1.0
    runner.tick([flight])
    assert now[0] == 107.0
    assert flight.done
    assert [(each.rows, each.seconds) for each in runner.finished_ticks()] == [(2, 2.0)] * 3
    assert runner.start_decode([flight]).done


def test_a_request_goes_to_the_service_with_the_least_work_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = {"http://a": 30.0, "http://b": 20.0}
    chosen = []

    async def work_left(_: httpx.AsyncClient, url: str) -> float:
        await asyncio.sleep(0)
        return left[url]

    async def send(_: httpx.AsyncClient, ask: Ask, since: float, url: str) -> Outcome:
        chosen.append(url)
        left[url] += 15.0
        return Outcome(ask, 200, 0.0)

    monkeypatch.setattr(fleet, "_work_left", work_left)
    monkeypatch.setattr(fleet, "send", send)
    for ask in uniform(3, steps=5):
        fleet_loop(list(left), [(0.0, ask)])
    assert chosen == ["http://b", "http://a", "http://b"]
