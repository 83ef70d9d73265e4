"""Admission: bounded by work, answered at once."""

from __future__ import annotations

import threading
import time

import pytest

from model.runner.runner import TickTimes
from service.errors import DeadlinePassed, QueueFull, Unavailable
from service.scheduling.admission import AdmissionQueue
from service.scheduling.pace import Pace
from tests.support.jobs import job, steady_pace

TEN = [2] * 5  # an image of ten row-steps


def queue(max_row_steps: int = 25) -> AdmissionQueue:
    return AdmissionQueue(max_row_steps, clock=lambda: 0.0)


def test_work_is_bounded_and_counted_until_it_is_worked_off() -> None:
    line, pace = queue(), steady_pace()
    first = job("a", TEN, TEN)
    line.offer(first, pace)
    with pytest.raises(QueueFull):
        line.offer(job("b", TEN), pace)
    assert len(line.take(0)) == 1
    with pytest.raises(QueueFull):  # taken is not done
        line.offer(job("b", TEN), pace)
    line.work_off(first, 10)
    line.offer(job("b", TEN), pace)
    assert line.row_steps == 20


def test_retry_after_is_the_time_the_excess_takes() -> None:
    line, pace = queue(1000), steady_pace(seconds_a_tick=1.0, max_rows=10)
    line.offer(job("a", *[[2] * 50] * 10, deadline=1e9), pace)
    with pytest.raises(QueueFull) as refused:
        line.offer(job("b", *[[2] * 50] * 2, deadline=1e9), pace)
    assert refused.value.retry_after_s == 20  # 200 row-steps too many, at 10 a second


def test_a_request_larger_than_the_queue_is_taken_when_nothing_else_is_in() -> None:
    line, pace = queue(25), steady_pace()
    line.offer(job("huge", TEN, TEN, TEN), pace)
    with pytest.raises(QueueFull):
        line.offer(job("b", [1]), pace)


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    line, pace = queue(1000), steady_pace(seconds_a_tick=1.0)
    with pytest.raises(DeadlinePassed, match="deadline is in"):
        line.offer(job("a", [2] * 50, deadline=10.0), pace)
    line.offer(job("b", [2] * 5, deadline=10.0), pace)
    assert line.row_steps == 10


def test_take_waits_for_a_job_and_no_longer() -> None:
    line = queue()
    threading.Timer(0.1, lambda: line.offer(job("a", TEN), steady_pace())).start()
    assert [each.id for each in line.take(30.0)] == ["a"]
    began = time.monotonic()
    assert line.take(0.05) == []
    assert time.monotonic() - began >= 0.05


def test_closing_refuses_with_the_reason_and_wakes_whoever_waits() -> None:
    line = queue()
    threading.Timer(0.1, lambda: line.close(Unavailable("stopping"))).start()
    assert line.take(30.0) == []
    with pytest.raises(Unavailable, match="stopping"):
        line.offer(job("a", TEN), steady_pace())


def test_pace_starts_from_the_warm_up_and_follows_what_it_sees() -> None:
    pace = Pace(TickTimes(one_row=0.11, full=0.2), max_rows=10)
    assert pace.tick_seconds(1) == pytest.approx(0.11)
    assert pace.tick_seconds(10) == pytest.approx(0.2)
    assert pace.seconds_for(100) == pytest.approx(2.0)
    for _ in range(200):
        pace.observe(5, 0.3)  # twice what the warm-up foretold
    assert pace.tick_seconds(10) == pytest.approx(0.4, rel=0.01)


def test_one_long_pause_is_no_pace() -> None:
    pace = Pace(TickTimes(one_row=0.1, full=0.1), max_rows=10)
    pace.observe(5, 600.0)
    assert pace.tick_seconds(1) < 0.2


def test_a_full_house_refuses_no_deadline_that_a_free_row_could_meet() -> None:
    line, pace = queue(1000), steady_pace(seconds_a_tick=0.1, max_rows=10)
    line.offer(job("others", *[[2] * 20] * 20, deadline=1e9), pace)
    line.offer(job("mine", [2] * 20, deadline=2.5), pace)
    assert line.row_steps == 840
