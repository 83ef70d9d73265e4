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
LONG_S = 10.0
"""How long `take` may wait; what wakes it up does so in a small part of that."""


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


def test_work_that_fits_exactly_is_admitted() -> None:
    line, pace = queue(20), steady_pace()
    line.offer(job("a", TEN), pace)
    line.offer(job("b", TEN), pace)
    assert line.row_steps == 20
    with pytest.raises(QueueFull):
        line.offer(job("c", [1]), pace)


def test_what_was_refused_takes_no_room() -> None:
    line, pace = queue(20), steady_pace()
    line.offer(job("a", TEN), pace)
    with pytest.raises(QueueFull):
        line.offer(job("b", TEN, [1]), pace)
    with pytest.raises(DeadlinePassed):
        line.offer(job("c", TEN, deadline=0.0), pace)
    assert line.row_steps == 10
    assert [each.id for each in line.take(0)] == ["a"]


def test_retry_after_is_the_time_the_excess_takes() -> None:
    line, pace = queue(1000), steady_pace(seconds_a_tick=1.0, max_rows=10)
    line.offer(job("a", *[[2] * 50] * 10, deadline=1e9), pace)
    with pytest.raises(QueueFull) as refused:
        line.offer(job("b", *[[2] * 50] * 2, deadline=1e9), pace)
    assert refused.value.retry_after_s == 20  # 200 row-steps too many, at 10 a second


def test_retry_after_is_a_whole_number_of_seconds_that_suffices() -> None:
    line, pace = queue(20), steady_pace(seconds_a_tick=1.0, max_rows=10)
    line.offer(job("a", TEN, TEN), pace)
    waits = []
    for steps in (10, 11):
        with pytest.raises(QueueFull) as refused:
            line.offer(job("b", [1] * steps), pace)
        waits.append(refused.value.retry_after_s)
    assert waits == [1, 2]  # 1.0 and 1.1 ticks of a second


def test_a_request_larger_than_the_queue_may_come_back_when_it_is_empty() -> None:
    line, pace = queue(20), steady_pace(seconds_a_tick=1.0, max_rows=10)
    line.offer(job("a", TEN), pace)
    with pytest.raises(QueueFull) as refused:
        line.offer(job("huge", *[TEN] * 10), pace)
    assert refused.value.retry_after_s == 1  # what is in, 10 row-steps; not the excess of 90


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


def timed_take(line: AdmissionQueue, timeout_s: float) -> tuple[list[str], float]:
    """The names of the jobs taken, and the seconds that it took."""
    began = time.monotonic()
    names = [each.id for each in line.take(timeout_s)]
    return names, time.monotonic() - began


def test_a_deadline_is_refused_only_where_twice_the_time_would_not_do() -> None:
    line, pace = queue(1000), steady_pace(seconds_a_tick=1.0)
    line.offer(job("1.5 times", [1] * 15, deadline=10.0), pace)
    line.offer(job("twice", [1] * 20, deadline=10.0), pace)
    with pytest.raises(DeadlinePassed):
        line.offer(job("more", [1] * 21, deadline=10.0), pace)


def test_a_request_needs_the_steps_of_its_longest_image_in_small_ticks() -> None:
    line, pace = queue(1000), Pace(TickTimes(one_row=1.0, full=10.0), max_rows=10)
    line.offer(job("side by side", *[[1] * 15] * 4, deadline=10.0), pace)
    with pytest.raises(DeadlinePassed):
        line.offer(job("one is long", [1] * 2, [1] * 25, deadline=10.0), pace)


def test_take_waits_for_a_job_and_no_longer() -> None:
    line = queue()
    threading.Timer(0.1, lambda: line.offer(job("a", TEN), steady_pace())).start()
    names, seconds = timed_take(line, LONG_S)
    assert names == ["a"]
    assert seconds < LONG_S / 2
    names, seconds = timed_take(line, 0.05)
    assert names == []
    assert 0.05 <= seconds < LONG_S / 2


def test_take_does_not_wait_where_there_is_a_job() -> None:
    line = queue()
    line.offer(job("a", TEN), steady_pace())
    names, seconds = timed_take(line, LONG_S)
    assert names == ["a"]
    assert seconds < LONG_S / 2


def test_closing_refuses_with_the_reason_and_wakes_whoever_waits() -> None:
    line = queue()
    threading.Timer(0.1, lambda: line.close(Unavailable("stopping"))).start()
    names, seconds = timed_take(line, LONG_S)
    assert names == []
    assert seconds < LONG_S / 2
    with pytest.raises(Unavailable, match="stopping"):
        line.offer(job("a", TEN), steady_pace())


def test_nobody_waits_at_a_closed_queue() -> None:
    line = queue()
    line.close(Unavailable("stopping"))
    names, seconds = timed_take(line, LONG_S)
    assert names == []
    assert seconds < LONG_S / 2


def test_what_was_admitted_before_the_close_is_still_taken() -> None:
    line = queue()
    line.offer(job("a", TEN), steady_pace())
    line.close(Unavailable("stopping"))
    assert [each.id for each in line.take(0)] == ["a"]


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
