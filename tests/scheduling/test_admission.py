"""AdmissionQueue: bounded by work; admits or refuses at once."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from model.runner.runner import TickTimes
from service.errors import DeadlinePassed, QueueFull, Unavailable
from service.scheduling.admission import AdmissionQueue
from tests.support.jobs import job, measured_pace, steady_pace

TEN = [2] * 5  # an image of ten row-steps
LONG_S = 10.0
"""The timeout of a wait that ends long before."""


def new_queue(max_row_steps: int = 25) -> AdmissionQueue:
    return AdmissionQueue(max_row_steps, clock=lambda: 0.0)


def test_work_is_bounded_and_counted_until_it_is_worked_off() -> None:
    queue, pace = new_queue(), steady_pace()
    first = job("a", TEN, TEN)
    queue.offer(first, pace)
    with pytest.raises(QueueFull):
        queue.offer(job("b", TEN), pace)
    assert len(queue.take()) == 1
    with pytest.raises(QueueFull):  # its work is taken, but not done
        queue.offer(job("b", TEN), pace)
    queue.work_off(first, 10)
    queue.offer(job("b", TEN), pace)
    assert queue.row_steps == 20


def test_what_is_left_is_known_by_job_until_it_ends() -> None:
    queue, pace = new_queue(100), steady_pace()
    first, second = job("a", TEN, TEN), job("b", TEN)
    queue.offer(first, pace)
    queue.offer(second, pace)
    queue.work_off(first, 4)
    queue.work_off(second, 10)
    assert queue.left == [(16, 2), (0, 1)]
    first.pixels[1] = second.pixels[0] = np.zeros(0, np.uint8)
    assert queue.left == [(16, 1), (0, 1)]
    queue.forget(first)
    assert queue.left == [(0, 1)]


def test_work_that_fits_exactly_is_admitted() -> None:
    queue, pace = new_queue(20), steady_pace()
    queue.offer(job("a", TEN), pace)
    queue.offer(job("b", TEN), pace)
    assert queue.row_steps == 20
    with pytest.raises(QueueFull):
        queue.offer(job("c", [1]), pace)


def test_a_refused_job_takes_no_room() -> None:
    queue, pace = new_queue(20), steady_pace()
    queue.offer(job("a", TEN), pace)
    with pytest.raises(QueueFull):
        queue.offer(job("b", TEN, [1]), pace)
    with pytest.raises(DeadlinePassed):
        queue.offer(job("b", TEN, deadline=0.0), pace)
    assert queue.row_steps == 10
    assert [each.id for each in queue.take()] == ["a"]


def test_retry_after_is_the_time_the_excess_takes() -> None:
    queue, pace = new_queue(1000), steady_pace(seconds_per_tick=1.0, max_rows=10)
    queue.offer(job("a", *[[2] * 50] * 10, deadline=1e9), pace)
    with pytest.raises(QueueFull) as refused:
        queue.offer(job("b", *[[2] * 50] * 2, deadline=1e9), pace)
    assert refused.value.retry_after_s == 20  # an excess of 200 row-steps, at 10 per second


def test_a_refused_request_is_told_the_time_until_there_is_room() -> None:
    waits = []
    for steps in (10, 11):
        queue, pace = new_queue(20), steady_pace(seconds_per_tick=1.0, max_rows=10)
        queue.offer(job("a", TEN, TEN), pace)
        with pytest.raises(QueueFull) as refused:
            queue.offer(job("b", [1] * steps), pace)
        waits.append(refused.value.retry_after_s)
    assert waits == pytest.approx([1.0, 1.1])  # ticks of a second


def test_a_refused_request_waits_for_a_moment_at_least() -> None:
    queue, pace = new_queue(20), steady_pace(seconds_per_tick=1e-4, max_rows=10)
    queue.offer(job("a", TEN, TEN), pace)
    with pytest.raises(QueueFull) as refused:
        queue.offer(job("b", TEN), pace)
    assert refused.value.retry_after_s == 0.1


def test_a_request_larger_than_the_queue_may_retry_when_it_is_empty() -> None:
    queue, pace = new_queue(20), steady_pace(seconds_per_tick=1.0, max_rows=10)
    queue.offer(job("a", TEN), pace)
    with pytest.raises(QueueFull) as refused:
        queue.offer(job("huge", *[TEN] * 10), pace)
    assert refused.value.retry_after_s == 1  # for the 10 row-steps in the queue; the excess is 90


def test_a_request_larger_than_the_queue_is_admitted_when_it_is_empty() -> None:
    queue, pace = new_queue(25), steady_pace()
    queue.offer(job("huge", TEN, TEN, TEN), pace)
    with pytest.raises(QueueFull):
        queue.offer(job("b", [1]), pace)


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    queue, pace = new_queue(1000), steady_pace(seconds_per_tick=1.0)
    with pytest.raises(DeadlinePassed, match="deadline is in"):
        queue.offer(job("a", [2] * 50, deadline=10.0), pace)
    queue.offer(job("b", [2] * 5, deadline=10.0), pace)
    assert queue.row_steps == 10


def timed_take(queue: AdmissionQueue, timeout_s: float) -> tuple[list[str], float]:
    """The names of the jobs taken after a wait, and the seconds that it took."""
    began = time.monotonic()
    queue.wait(timeout_s)
    names = [each.id for each in queue.take()]
    return names, time.monotonic() - began


def test_a_deadline_is_refused_only_if_twice_the_time_is_too_short() -> None:
    queue, pace = new_queue(1000), steady_pace(seconds_per_tick=1.0)
    queue.offer(job("1.5 times", [1] * 15, deadline=10.0), pace)
    queue.offer(job("twice", [1] * 20, deadline=10.0), pace)
    with pytest.raises(DeadlinePassed):
        queue.offer(job("more", [1] * 21, deadline=10.0), pace)


def test_the_time_needed_is_that_of_the_longest_image_in_small_ticks() -> None:
    queue, pace = new_queue(1000), measured_pace(TickTimes(one_row=1.0, full=10.0), max_rows=10)
    queue.offer(job("in parallel", *[[1] * 15] * 4, deadline=10.0), pace)
    with pytest.raises(DeadlinePassed):
        queue.offer(job("one is long", [1] * 2, [1] * 25, deadline=10.0), pace)


def test_a_wait_is_for_a_job_and_no_longer() -> None:
    queue = new_queue()
    threading.Timer(0.1, lambda: queue.offer(job("a", TEN), steady_pace())).start()
    names, seconds = timed_take(queue, LONG_S)
    assert names == ["a"]
    assert seconds < LONG_S / 2
    names, seconds = timed_take(queue, 0.05)
    assert names == []
    assert 0.05 <= seconds < LONG_S / 2


def test_a_wait_ends_at_once_if_there_is_a_job() -> None:
    queue = new_queue()
    queue.offer(job("a", TEN), steady_pace())
    names, seconds = timed_take(queue, LONG_S)
    assert names == ["a"]
    assert seconds < LONG_S / 2


def test_closing_refuses_offers_with_the_reason_and_ends_a_wait() -> None:
    queue = new_queue()
    threading.Timer(0.1, lambda: queue.close(Unavailable("stopping"))).start()
    names, seconds = timed_take(queue, LONG_S)
    assert names == []
    assert seconds < LONG_S / 2
    with pytest.raises(Unavailable, match="stopping"):
        queue.offer(job("a", TEN), steady_pace())


def test_nothing_waits_on_a_closed_queue() -> None:
    queue = new_queue()
    queue.close(Unavailable("stopping"))
    names, seconds = timed_take(queue, LONG_S)
    assert names == []
    assert seconds < LONG_S / 2


def test_jobs_admitted_before_the_close_are_still_taken() -> None:
    queue = new_queue()
    queue.offer(job("a", TEN), steady_pace())
    queue.close(Unavailable("stopping"))
    assert [each.id for each in queue.take()] == ["a"]


def test_waiting_work_does_not_count_against_a_deadline() -> None:
    queue, pace = new_queue(1000), steady_pace(seconds_per_tick=0.1, max_rows=10)
    queue.offer(job("others", *[[2] * 20] * 20, deadline=1e9), pace)
    queue.offer(job("mine", [2] * 20, deadline=2.5), pace)
    assert queue.row_steps == 840


def test_the_first_reason_for_the_close_is_kept() -> None:
    queue = new_queue()
    queue.close(Unavailable("the device has failed"))
    queue.close(Unavailable("stopping"))
    with pytest.raises(Unavailable, match="failed"):
        queue.offer(job("a", TEN), steady_pace())
