"""Deadlines: which jobs are dropped, by the work and the time that are left."""

from __future__ import annotations

import time

from model.runner.runner import TickTimes
from service.errors import ClientGone, DeadlinePassed
from service.scheduling.deadlines import reason_to_drop
from service.scheduling.jobs import Job
from service.scheduling.pace import Pace
from tests.support.jobs import job, steady_pace

TEN_S = steady_pace(seconds_a_tick=10.0)


def due_in(seconds: float, *images: list[int]) -> Job:
    return job("a job", *images, deadline=time.monotonic() + seconds)


def test_the_steps_already_done_need_no_time() -> None:
    late = due_in(300.0, [2] * 100)
    assert isinstance(reason_to_drop(late, TEN_S, time.monotonic()), DeadlinePassed)
    late.steps_done = 60
    assert reason_to_drop(late, TEN_S, time.monotonic()) is None


def test_images_side_by_side_need_no_more_time_than_one() -> None:
    assert reason_to_drop(due_in(100.0, *[[2] * 10] * 16), TEN_S, time.monotonic()) is None


def test_a_deadline_is_given_up_where_twice_the_time_would_not_do() -> None:
    assert reason_to_drop(due_in(100.0, [2] * 19), TEN_S, time.monotonic()) is None
    given_up = reason_to_drop(due_in(100.0, [2] * 21), TEN_S, time.monotonic())
    assert isinstance(given_up, DeadlinePassed)
    assert "needs at least 210.0 s more" in given_up.detail


def test_the_time_needed_is_that_of_small_ticks() -> None:
    pace = Pace(TickTimes(one_row=1.0, full=10.0), max_rows=10)
    assert reason_to_drop(due_in(100.0, [2] * 100), pace, time.monotonic()) is None


def test_a_deadline_that_is_over_is_told_as_such() -> None:
    over = reason_to_drop(due_in(-1.0, [2] * 100), TEN_S, time.monotonic())
    assert isinstance(over, DeadlinePassed)
    assert over.detail == "the request's deadline passed"


def test_a_client_that_left_is_told_before_its_deadline() -> None:
    gone = due_in(-1.0, [2])
    gone.cancel()
    assert isinstance(reason_to_drop(gone, TEN_S, time.monotonic()), ClientGone)
