"""Narrowing: who sits out a tick, for whom, and how often."""

from __future__ import annotations

import gc

from model.runner.runner import Flight, TickTimes
from service.scheduling.fair import FairScheduler, fair_scheduler
from service.scheduling.jobs import ImageTask, Job
from service.scheduling.narrowing import MOST_SAT_OUT
from service.scheduling.pace import Pace
from tests.support.jobs import NO_NOISE, job, step

SHORT, LONG = [2] * 10, [2] * 100
FAR = 1e6
ROWS = 8
TICK_S = 9.0
"""Of a full tick. One of r rows takes 1 + r seconds, so 4 rows are the fewest that are efficient."""


def narrow(*jobs: Job, now: float = 0.0) -> FairScheduler:
    scheduler = fair_scheduler(Pace(TickTimes(2.0, TICK_S), ROWS), lambda: now)
    for each in jobs:
        scheduler.add(each)
    return scheduler


def far(name: str, *images: list[int]) -> Job:
    return job(name, *images, deadline=FAR)


def names(tasks: list[ImageTask]) -> set[str]:
    return {task.job.id for task in tasks}


def test_those_with_long_to_go_sit_out_for_those_near_their_end() -> None:
    scheduler = narrow(far("a", SHORT), far("b", SHORT), far("c", LONG), far("d", LONG))
    assert names(scheduler.pick()) == {"a", "b"}


def test_near_the_end_is_what_is_left_and_not_what_there_was() -> None:
    ending = [far("a", LONG), far("b", LONG)]
    scheduler = narrow(*ending)
    for _ in range(95):
        step(scheduler)
    for name in "cd":
        scheduler.add(far(name, [2] * 20))
    assert names(scheduler.pick()) == {"a", "b"}


def test_equal_requests_fill_the_tick() -> None:
    scheduler = narrow(*[far(name, LONG) for name in "abcd"])
    assert names(scheduler.pick()) == {"a", "b", "c", "d"}


def test_a_tick_stays_wide_enough_to_be_efficient() -> None:
    """The second has more than twice as long to go as the first, and is in it for the width."""
    scheduler = narrow(far("a", SHORT), far("b", [2] * 30), far("c", LONG), far("d", LONG))
    assert names(scheduler.pick()) == {"a", "b"}


def test_of_equal_requests_those_that_the_tick_has_first_stay() -> None:
    """Not whichever a set happens to yield: a load takes the same course each time."""
    for _ in range(8):
        short = [far(name, [1] * 10) for name in "ab"]
        scheduler = narrow(*short, *[far(name, LONG) for name in "cde"])
        assert names(scheduler.pick()) == {"a", "b", "c"}


def test_nobody_sits_out_if_the_tick_is_narrow_anyway() -> None:
    scheduler = narrow(far("a", SHORT), far("b", LONG))
    assert names(scheduler.pick()) == {"a", "b"}


def test_a_request_sits_out_a_part_of_its_own_length_at_most() -> None:
    long = far("long", LONG)
    scheduler = narrow(long)
    ticks = sent = 0
    while long in scheduler.jobs():
        while len(scheduler.jobs()) < 3:
            sent += 1
            scheduler.add(far(f"short {sent}", SHORT))
        step(scheduler)
        ticks += 1
    assert ticks == len(LONG) * (1 + MOST_SAT_OUT)


def test_a_request_whose_deadline_is_near_does_not_sit_out() -> None:
    hurried = job("hurried", LONG, deadline=3.0 * len(LONG) * TICK_S - 1.0)
    scheduler = narrow(far("a", SHORT), far("b", SHORT), hurried, far("d", LONG))
    assert names(scheduler.pick()) >= {"hurried"}
    assert "d" not in names(scheduler.pick())


def test_a_tick_that_runs_in_parts_is_sat_out_once() -> None:
    scheduler = narrow(far("a", SHORT), far("b", SHORT), far("c", [2] * 25), far("d", [2] * 25))
    for _ in range(5):
        picked = scheduler.pick()
        assert names(picked) == {"a", "b"}
        for task in picked:
            run_alone(scheduler, task)
    assert names(scheduler.pick()) == {"a", "b", "c", "d"}


def run_alone(scheduler: FairScheduler, task: ImageTask) -> None:
    """One part of a tick."""
    if task.flight is None:
        task.flight = Flight(task.trajectory, 0, NO_NOISE)
    task.flight.step += 1
    task.job.steps_done += 1
    scheduler.advanced([task])


def test_nothing_is_kept_of_a_request_that_sat_out_and_left() -> None:
    scheduler = narrow(far("a", SHORT), far("b", SHORT), far("gone for good", LONG))
    step(scheduler)
    (gone,) = [each for each in scheduler.jobs() if each.id == "gone for good"]
    scheduler.pick()
    scheduler.drop(gone)
    del gone
    gc.collect()
    jobs = [each for each in gc.get_objects() if type(each) is Job]
    assert "gone for good" not in {each.id for each in jobs}
