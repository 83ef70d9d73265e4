"""Thousands of synthetic requests through the scheduler: none starves, none is lost."""

from __future__ import annotations

import math

import pytest

from model.runner.runner import TickTimes
from service.scheduling.fair import BAND_TICKS, FairScheduler
from service.scheduling.jobs import Job
from service.scheduling.narrowing import MOST_SAT_OUT, Narrowing
from service.scheduling.pace import Pace
from tests.support.jobs import job, step
from tests.support.simulation import Simulation, traffic

MAX_ROWS = 32
BAND = BAND_TICKS * MAX_ROWS


def new_simulation() -> Simulation:
    return Simulation(FairScheduler(MAX_ROWS), BAND)


def narrowing_simulation() -> Simulation:
    """A tick of r rows takes (1 + r) / 33 of a unit of time, and a full one a unit."""
    pace = Pace(TickTimes(2 / (MAX_ROWS + 1), 1.0), MAX_ROWS)
    simulation: Simulation
    narrowing = Narrowing(pace, lambda: simulation.tick)
    simulation = Simulation(FairScheduler(MAX_ROWS, narrowing=narrowing), BAND, full=False)
    return simulation


def latest_end(simulation: Simulation, of: Job) -> int:
    """The tick by which the scheduler guarantees a job's end.

    The sum of: the tick by which weighted processor sharing, given the same work in every tick,
    would have ended it with a band of extra work; the steps of its longest image, which more rows
    do not shorten; and the work wasted on jobs that were dropped.
    """
    serial = max(trajectory.steps for trajectory in of.trajectories)
    return simulation.shared[of] + serial + simulation.wasted // (MAX_ROWS - 1)


def check_all_ended_in_time(simulation: Simulation, jobs: list[Job]) -> None:
    assert simulation.finished.keys() | simulation.dropped.keys() == set(jobs)
    assert not simulation.finished.keys() & simulation.dropped.keys()
    for each, ended in simulation.finished.items():
        assert ended <= latest_end(simulation, each), each.id


def test_every_request_ends_about_when_sharing_would_end_it() -> None:
    arrivals = traffic(0, 1000, max_rows=MAX_ROWS, load=1.0)
    simulation = new_simulation()
    simulation.run(arrivals)
    assert not simulation.dropped
    check_all_ended_in_time(simulation, [arrival.job for arrival in arrivals])


def test_hang_ups_missed_deadlines_and_out_of_memory_do_not_delay_the_others() -> None:
    arrivals = traffic(1, 1000, max_rows=MAX_ROWS, load=1.0, impatience=0.3)
    simulation = new_simulation()
    simulation.run(arrivals, shrink_every=300)
    assert len(simulation.dropped) > 50
    check_all_ended_in_time(simulation, [arrival.job for arrival in arrivals])


def check_narrowed(simulation: Simulation, jobs: list[Job]) -> None:
    """As above, and the ticks that it may sit out."""
    assert simulation.finished.keys() | simulation.dropped.keys() == set(jobs)
    for each, ended in simulation.finished.items():
        sat_out = math.ceil(MOST_SAT_OUT * each.ticks_at_least)
        assert ended <= latest_end(simulation, each) + sat_out, each.id


def test_narrowed_ticks_delay_nobody_by_more_than_it_may_sit_out() -> None:
    arrivals = traffic(3, 1000, max_rows=MAX_ROWS, load=0.8)
    simulation = narrowing_simulation()
    simulation.run(arrivals)
    assert not simulation.dropped
    check_narrowed(simulation, [arrival.job for arrival in arrivals])


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.3, 0.8, 1.0, 2.0])
@pytest.mark.parametrize("impatience", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(4, 7))
def test_no_request_starves_in_narrowed_ticks(seed: int, impatience: float, load: float) -> None:
    arrivals = traffic(seed, 2000, max_rows=MAX_ROWS, load=load, impatience=impatience)
    simulation = narrowing_simulation()
    simulation.run(arrivals, shrink_every=700 if impatience else 10**9)
    check_narrowed(simulation, [arrival.job for arrival in arrivals])


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.5, 0.8, 1.0, 2.0])
@pytest.mark.parametrize("impatience", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(2, 5))
def test_no_request_starves_under_any_traffic(seed: int, impatience: float, load: float) -> None:
    arrivals = traffic(seed, 2000, max_rows=MAX_ROWS, load=load, impatience=impatience)
    simulation = new_simulation()
    simulation.run(arrivals, shrink_every=700 if impatience else 10**9)
    check_all_ended_in_time(simulation, [arrival.job for arrival in arrivals])


def ticks_until_gone(scheduler: FairScheduler, awaited: Job) -> int:
    ticks = 0
    while awaited in scheduler.jobs():
        assert step(scheduler)
        ticks += 1
    return ticks


def test_a_small_request_among_huge_ones_takes_only_its_own_steps() -> None:
    scheduler = FairScheduler(MAX_ROWS)
    huge = [job(f"huge {i}", *[[2] * 1000] * 16, client="greedy") for i in range(8)]
    for each in huge:
        scheduler.add(each)
    for _ in range(100):
        step(scheduler)
    small = job("small", [2] * 50, admitted=100, client="modest")
    scheduler.add(small)
    assert ticks_until_gone(scheduler, small) == 50


def test_one_request_among_a_hundred_of_another_client_finishes_early() -> None:
    scheduler = FairScheduler(MAX_ROWS)
    flood = [job(f"{i}", *[[2] * 100] * 4, admitted=i, client="greedy") for i in range(100)]
    for each in flood:
        scheduler.add(each)
    one = job("one", *[[2] * 100] * 4, admitted=100, client="modest")
    scheduler.add(one)
    alone = 100
    assert ticks_until_gone(scheduler, one) <= 2 * alone
    assert ticks_until_gone(scheduler, flood[-1]) > 20 * alone


def test_a_client_that_always_has_a_hundred_requests_leaves_another_its_share() -> None:
    scheduler = FairScheduler(MAX_ROWS)
    alone = 50
    sent = 0
    for turn in range(10):
        one = job(f"one {turn}", *[[2] * 50] * 16, admitted=sent, client="modest")
        scheduler.add(one)
        ticks = 0
        while one in scheduler.jobs():
            while sum(each.client == "greedy" for each in scheduler.jobs()) < 100:
                sent += 1
                scheduler.add(job(f"{sent}", [2] * 50, admitted=sent, client="greedy"))
            step(scheduler)
            ticks += 1
            assert ticks <= 3 * alone
