"""The scheduler: who joins when."""

from __future__ import annotations

from service.jobs import Job
from service.scheduler import Scheduler
from tests.work import job

GUIDED = [2, 2, 2]
PLAIN = [1, 1]


def joined(scheduler: Scheduler) -> list[str]:
    return [f"{sample.job.id}{sample.index}" for sample in scheduler.joining()]


def scheduler_with(max_rows: int, *jobs: Job) -> Scheduler:
    scheduler = Scheduler(max_rows)
    for each in jobs:
        scheduler.add(each)
    return scheduler


def test_images_join_until_the_rows_are_used_up() -> None:
    scheduler = scheduler_with(5, job("a", GUIDED, GUIDED, GUIDED), job("b", PLAIN, admitted=1))
    assert joined(scheduler) == ["b0", "a0", "a1"]
    assert [sample.index for sample in scheduler.waiting] == [2]


def test_room_is_kept_for_the_most_rows_an_image_will_take() -> None:
    scheduler = scheduler_with(3, job("a", [1, 1, 2]), job("b", [1, 2], admitted=1))
    assert len(joined(scheduler)) == 1


def test_a_large_request_does_not_shut_out_a_small_one() -> None:
    scheduler = scheduler_with(8, job("big", *[GUIDED] * 16), job("small", GUIDED, admitted=5))
    assert "small0" in joined(scheduler)


def test_earlier_deadlines_go_first_then_shorter_work_then_first_come() -> None:
    scheduler = scheduler_with(
        2,
        job("late", GUIDED, deadline=9),
        job("early", GUIDED, deadline=5, admitted=2),
    )
    assert joined(scheduler) == ["early0"]
    by_work = scheduler_with(2, job("long", [2] * 9), job("short", [2], admitted=1))
    assert joined(by_work) == ["short0"]
    by_arrival = scheduler_with(2, job("second", GUIDED, admitted=1), job("first", GUIDED))
    assert joined(by_arrival) == ["first0"]


def test_nobody_overtakes_the_first_for_being_smaller() -> None:
    scheduler = scheduler_with(3, job("in", PLAIN), job("in2", PLAIN))
    assert len(joined(scheduler)) == 2
    scheduler.add(job("first", GUIDED, deadline=1))
    scheduler.add(job("small", PLAIN, deadline=2))
    assert joined(scheduler) == []


def test_a_finished_image_makes_room_at_once() -> None:
    scheduler = scheduler_with(2, job("a", GUIDED), job("b", GUIDED, admitted=1))
    assert joined(scheduler) == ["a0"]
    scheduler.finish(scheduler.running[0])
    assert joined(scheduler) == ["b0"]


def test_dropping_a_job_takes_its_images_waiting_and_running() -> None:
    gone = job("gone", GUIDED, GUIDED)
    scheduler = scheduler_with(2, gone, job("stays", GUIDED, admitted=1))
    joined(scheduler)
    assert len(scheduler.drop(gone)) == 2
    assert gone not in scheduler.jobs()
    assert len(scheduler.jobs()) == 1


def test_ahead_counts_other_requests_that_wait_and_came_before() -> None:
    jobs = [job(str(i), GUIDED, admitted=i) for i in range(4)]
    scheduler = scheduler_with(2, *jobs)
    joined(scheduler)
    assert scheduler.ahead_of(jobs[3]) == 2
    assert scheduler.ahead_of(jobs[1]) == 0
