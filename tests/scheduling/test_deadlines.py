"""Deadlines: which jobs are dropped, given the remaining work and time."""

from __future__ import annotations

import time

import pytest

from model.runner.runner import TickTimes
from service.errors import ClientGone, DeadlineImpossible, DeadlinePassed
from service.scheduling.deadlines import reason_to_drop
from service.scheduling.pace import RECENT_TICKS
from tests.support.jobs import due_in, measured_pace, steady_pace

TEN_S = steady_pace(seconds_per_tick=10.0)


def test_only_the_remaining_steps_need_time() -> None:
    late = due_in(300.0, [2] * 100)
    assert isinstance(reason_to_drop(late, TEN_S, time.monotonic(), alone=False), DeadlinePassed)
    late.steps_done = 60
    assert reason_to_drop(late, TEN_S, time.monotonic(), alone=False) is None


def test_images_in_parallel_need_no_more_time_than_one() -> None:
    assert (
        reason_to_drop(due_in(100.0, *[[2] * 10] * 16), TEN_S, time.monotonic(), alone=False)
        is None
    )


def test_a_job_is_dropped_only_if_twice_the_time_is_too_short() -> None:
    assert reason_to_drop(due_in(100.0, [2] * 19), TEN_S, time.monotonic(), alone=False) is None
    dropped = reason_to_drop(due_in(100.0, [2] * 21), TEN_S, time.monotonic(), alone=False)
    assert isinstance(dropped, DeadlinePassed)
    assert "needs at least 210 s more" in dropped.detail


def test_the_time_needed_is_estimated_from_small_ticks() -> None:
    pace = measured_pace(TickTimes(one_row=1.0, full=10.0), max_rows=10)
    assert reason_to_drop(due_in(100.0, [2] * 100), pace, time.monotonic(), alone=False) is None


def test_a_passed_deadline_is_reported_as_passed() -> None:
    over = reason_to_drop(due_in(-1.0, [2] * 100), TEN_S, time.monotonic(), alone=False)
    assert isinstance(over, DeadlinePassed)
    assert over.detail == "the request's deadline passed"


def test_a_client_that_left_takes_precedence_over_a_passed_deadline() -> None:
    gone = due_in(-1.0, [2])
    gone.cancel()
    assert isinstance(reason_to_drop(gone, TEN_S, time.monotonic(), alone=False), ClientGone)


def test_a_deadline_that_an_idle_device_would_miss_is_told_from_one_missed_under_load() -> None:
    now = time.monotonic()
    alone = reason_to_drop(due_in(10.0, [2] * 100), TEN_S, now, alone=False)
    assert isinstance(alone, DeadlineImpossible)
    waited = due_in(-1.0, [2] * 5)
    waited.admitted = waited.deadline - 100.0
    assert type(reason_to_drop(waited, TEN_S, now, alone=False)) is DeadlinePassed


def test_a_job_alone_is_dropped_only_if_no_pace_ever_seen_would_do() -> None:
    pace = steady_pace(seconds_per_tick=1.0)
    for _ in range(RECENT_TICKS):
        pace.observe(1, 10.0)  # a slow spell
    job = due_in(20.0, [2] * 20)
    assert reason_to_drop(job, pace, time.monotonic(), alone=True) is None
    assert isinstance(reason_to_drop(job, pace, time.monotonic(), alone=False), DeadlinePassed)
    endless = due_in(20.0, [2] * 200)
    dropped = reason_to_drop(endless, pace, time.monotonic(), alone=True)
    assert isinstance(dropped, DeadlineImpossible)


@pytest.mark.parametrize("alone", [True, False])
def test_nobody_is_dropped_by_what_was_measured_before_the_device_was_idle(alone: bool) -> None:
    pace = steady_pace(seconds_per_tick=10.0)
    pace.rest()
    assert reason_to_drop(due_in(5.0, [2] * 50), pace, time.monotonic(), alone=alone) is None
