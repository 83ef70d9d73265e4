"""Client limits: what one client may have unfinished, and how long a refused request is told to wait."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.runner.runner import TickTimes
from service.errors import RateLimited
from service.scheduling.admission import AdmissionQueue
from service.scheduling.jobs import ClientLimits, Job
from service.scheduling.pace import Pace
from tests.support.jobs import job, measured_pace, steady_pace

TEN = [2] * 5  # an image of ten row-steps
FAR = 1e9
TEN_A_SECOND = steady_pace(seconds_per_tick=1.0, max_rows=10)


def of(client: str, *images: list[int], rows: int | None = None, most: int | None = None) -> Job:
    """A job of a client with limits of row-steps and of images."""
    limits = ClientLimits(max_row_steps=rows, max_images=most)
    made = job(f"of {client}", *images, deadline=FAR, client=client)
    made.client_limits = limits
    return made


def new_queue() -> AdmissionQueue:
    return AdmissionQueue(100_000, clock=lambda: 0.0)


def refusal(queue: AdmissionQueue, refused: Job, pace: Pace = TEN_A_SECOND) -> RateLimited:
    before = queue.row_steps
    with pytest.raises(RateLimited) as caught:
        queue.offer(refused, pace)
    assert queue.row_steps == before
    return caught.value


def wait_of(queue: AdmissionQueue, refused: Job, pace: Pace = TEN_A_SECOND) -> float:
    wait_s = refusal(queue, refused, pace).retry_after_s
    assert wait_s is not None
    return wait_s


def test_row_steps_are_limited_for_each_client_until_they_are_worked_off() -> None:
    queue, first = new_queue(), of("alice", TEN, TEN, rows=25)
    queue.offer(first, TEN_A_SECOND)
    error = refusal(queue, of("alice", TEN, rows=25))
    assert (error.limit, error.client, error.status) == ("max_row_steps", "alice", 429)
    assert error.detail == (
        "the key 'alice' may have 25 row-steps at a time (max_row_steps); 20 are under way, and this"
        " request needs 10"
    )
    queue.offer(of("bob", TEN, rows=25), TEN_A_SECOND)
    queue.work_off(first, 5)
    queue.offer(of("alice", TEN, rows=25), TEN_A_SECOND)
    refusal(queue, of("alice", [1], rows=25))


def test_images_are_limited_until_their_request_is_finished() -> None:
    queue, first = new_queue(), of("alice", TEN, TEN, most=3)
    queue.offer(first, TEN_A_SECOND)
    error = refusal(queue, of("alice", [1], [1], most=3))
    assert error.detail == (
        "the key 'alice' may have 3 images at a time (max_images); 2 are under way, and this request"
        " needs 2"
    )
    queue.offer(of("alice", [1], most=3), TEN_A_SECOND)
    queue.work_off(first, 20)
    refusal(queue, of("alice", [1], most=3))
    queue.forget(first)
    queue.offer(of("alice", [1], [1], most=3), TEN_A_SECOND)


def test_a_job_larger_than_the_limit_is_admitted_when_its_client_has_no_other() -> None:
    queue, first = new_queue(), of("alice", TEN, TEN, TEN, rows=25)
    queue.offer(of("bob", TEN), TEN_A_SECOND)
    queue.offer(first, TEN_A_SECOND)
    refusal(queue, of("alice", TEN, TEN, TEN, rows=25))
    queue.forget(first)
    queue.offer(of("alice", TEN, TEN, TEN, rows=25), TEN_A_SECOND)


def test_a_job_larger_than_the_limit_waits_for_its_clients_own_alone() -> None:
    queue = new_queue()
    queue.offer(of("alice", *[[2] * 5] * 10, rows=50), TEN_A_SECOND)  # 100
    queue.offer(of("bob", *[[2] * 50] * 10), TEN_A_SECOND)  # 1000: after them
    assert wait_of(queue, of("alice", *[[2] * 5] * 20, rows=50)) == pytest.approx(10)


def test_without_limits_a_client_fills_the_queue() -> None:
    queue = new_queue()
    for _ in range(20):
        queue.offer(of("alice", TEN), TEN_A_SECOND)
    assert queue.row_steps == 200


def test_limits_that_have_fallen_meanwhile_hold_for_the_next_request() -> None:
    queue = new_queue()
    queue.offer(of("alice", TEN, TEN), TEN_A_SECOND)
    refusal(queue, of("alice", TEN, rows=5))


def test_previews_count_as_work() -> None:
    queue = new_queue()
    pace = measured_pace(replace(TickTimes(1.0, 1.0), decode=0.5), max_rows=10)  # 5 row-steps
    queue.offer(of("alice", TEN, rows=15), pace)
    shown = of("alice", [1] * 2, rows=15)
    shown.preview_every, shown.on_progress = 1, lambda _: None
    assert "this request needs 7" in refusal(queue, shown, pace).detail


def test_alone_a_client_waits_until_the_excess_is_worked_off() -> None:
    queue = new_queue()
    queue.offer(of("alice", *[[2] * 50] * 10, rows=1000), TEN_A_SECOND)
    assert wait_of(queue, of("alice", *[[2] * 10] * 10, rows=1000)) == 20  # 200 row-steps


def test_next_to_others_it_waits_for_what_fair_sharing_finishes_before() -> None:
    queue = new_queue()
    queue.offer(of("bob", *[[2] * 50] * 2), TEN_A_SECOND)  # 200: before alice's 400
    queue.offer(of("carol", *[[2] * 50] * 8), TEN_A_SECOND)  # 800: after them
    queue.offer(of("alice", *[[2] * 50] * 4, rows=400), TEN_A_SECOND)
    assert wait_of(queue, of("alice", [1] * 10, rows=400)) == pytest.approx(20 + 1)


def test_a_clients_second_request_counts_twice() -> None:
    queue = new_queue()
    queue.offer(of("alice", *[[2] * 10] * 10, rows=400), TEN_A_SECOND)  # 200
    queue.offer(of("alice", *[[2] * 10] * 10, rows=400), TEN_A_SECOND)  # 200, counts as 400
    queue.offer(of("bob", *[[2] * 10] * 15), TEN_A_SECOND)  # 300: between them
    assert wait_of(queue, of("alice", *[[2] * 10] * 10, rows=400)) == pytest.approx(20)
    assert wait_of(queue, of("alice", *[[2] * 11] * 10, rows=400)) == pytest.approx(20 + 30 + 2)


def test_for_an_image_it_waits_until_a_whole_request_has_ended() -> None:
    queue = new_queue()
    queue.offer(of("alice", *[[2] * 50] * 2, most=3), TEN_A_SECOND)  # 200
    queue.offer(of("alice", [2] * 30, most=3), TEN_A_SECOND)  # 60, counts as 120: first
    assert wait_of(queue, of("alice", [1], most=3)) == pytest.approx(30)  # 30 ticks of a second
    assert wait_of(queue, of("alice", [1], [1], [1], most=3)) == pytest.approx(50)


def test_a_wait_is_not_shorter_than_the_steps_of_the_image_itself() -> None:
    """On a GPU a tick of two rows takes nearly as long as one of 128."""
    queue, pace = new_queue(), steady_pace(seconds_per_tick=0.1, max_rows=128)
    first = of("alice", [2] * 50, most=1)
    queue.offer(first, pace)
    assert wait_of(queue, of("alice", [2] * 50, most=1), pace) == pytest.approx(5.0)
    first.steps_done = 40
    queue.work_off(first, 80)
    assert wait_of(queue, of("alice", [2] * 50, most=1), pace) == pytest.approx(1.0)


def test_a_wait_is_a_moment_at_least() -> None:
    queue, pace = new_queue(), steady_pace(seconds_per_tick=1e-5)
    queue.offer(of("alice", [1], most=1), pace)
    assert wait_of(queue, of("alice", [1], most=1), pace) == 0.1
