"""The choice of a replica by what a request and those that are there would cost each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.fleet.contention import counts_of
from service.fleet.exchange import Load
from service.fleet.loads import ReplicaLoads, load_of, stats_of
from service.fleet.replica import Replica
from tests.support.clock import Clock
from tests.support.jobs import due_in, steady_pace
from tests.support.local_fleet import config_of, load_small


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def loads(clock: Clock) -> ReplicaLoads:
    return ReplicaLoads(clock)


def load(at: float, *left: int) -> Load:
    """The report of a replica with so many row-steps left of each of its requests."""
    return Load(sum(left), at, counts_of((each, 1) for each in left))


def test_a_large_request_goes_where_the_least_work_is(loads: ReplicaLoads, clock: Clock) -> None:
    loads.report("a", load(clock.now, 1000))
    loads.report("b", load(clock.now, *[20] * 4))
    assert loads.choose("ab", "large", 800) == ["b", "a"]


def test_a_small_request_goes_where_the_fewest_are(loads: ReplicaLoads, clock: Clock) -> None:
    loads.report("a", load(clock.now, 1000))
    loads.report("b", load(clock.now, *[20] * 4))
    assert loads.choose("ab", "small", 10) == ["a", "b"]


def test_of_equal_contention_the_least_work_decides(loads: ReplicaLoads, clock: Clock) -> None:
    loads.report("a", load(clock.now, 500))
    loads.report("b", load(clock.now, 300))
    assert loads.choose("ab", "small", 10) == ["b", "a"]


def test_what_was_sent_since_counts_as_what_is_reported(loads: ReplicaLoads, clock: Clock) -> None:
    """By the smaller of the two works, too."""
    loads.choose("ab", "large", 1000, avoid={"b"})
    for number in range(4):
        loads.choose("ab", str(number), 20, avoid={"a"})
    assert loads.choose("ab", "as large", 800)[0] == "b"
    loads.ended("as large")
    assert loads.choose("ab", "small", 10)[0] == "a"


def test_a_wide_request_goes_where_few_are_delayed(loads: ReplicaLoads, clock: Clock) -> None:
    """And where one was sent, the next does not go."""
    loads.report("a", load(clock.now, 300))
    loads.report("b", load(clock.now, *[20] * 5))
    assert loads.choose("ab", "one image", 80)[0] == "a"
    loads.ended("one image")
    assert loads.choose("ab", "of less", 20 * 8, images=8)[0] == "a"
    assert loads.choose("ab", "small", 20)[0] == "b"


def test_equal_replicas_take_turns(loads: ReplicaLoads) -> None:
    firsts = []
    for number in range(6):
        firsts.append(loads.choose("abc", str(number), 5)[0])
        loads.ended(str(number))
    assert firsts == ["a", "b", "c", "a", "b", "c"]


def test_a_report_counts_what_others_sent(loads: ReplicaLoads, clock: Clock) -> None:
    loads.report("a", load(clock.now, 500))
    assert loads.choose("ab", "mine", 400)[0] == "b"
    assert loads.choose("ab", "next", 1)[0] == "b"


def test_work_that_a_report_includes_is_not_counted_twice(
    loads: ReplicaLoads, clock: Clock
) -> None:
    assert loads.choose("ab", "first", 100)[0] == "a"
    assert loads.choose("ab", "second", 60)[0] == "b"
    clock.now += 1.0
    loads.report("a", load(clock.now, 10))  # nearly done
    assert loads.choose("ab", "third", 1)[0] == "a"


def test_work_sent_just_before_a_report_is_counted(loads: ReplicaLoads, clock: Clock) -> None:
    assert loads.choose("ab", "first", 100)[0] == "a"
    loads.report("a", load(clock.now + 0.01, 0))
    assert loads.choose("ab", "second", 1)[0] == "b"


def test_an_old_report_changes_nothing(loads: ReplicaLoads, clock: Clock) -> None:
    loads.report("a", load(clock.now, 0))
    loads.report("a", load(clock.now - 1.0, 900))
    loads.report("b", load(clock.now, 5))
    assert loads.choose("ab", "one", 1)[0] == "a"


def test_those_to_avoid_are_last_but_better_than_none(loads: ReplicaLoads, clock: Clock) -> None:
    loads.report("b", load(clock.now, 900))
    assert loads.choose("ab", "one", 1, avoid={"a"}) == ["b", "a"]
    assert loads.choose("a", "one", 1, avoid={"a"}) == ["a"]


def test_a_second_choice_for_a_request_takes_the_first_back(loads: ReplicaLoads) -> None:
    loads.choose("ab", "one", 50)
    loads.choose("ab", "one", 50, avoid={"a"})
    assert loads.choose("ab", "two", 1)[0] == "a"


def test_replicas_that_are_gone_are_forgotten(loads: ReplicaLoads) -> None:
    loads.choose("abc", "one", 1)
    loads.choose("bc", "two", 1)
    assert loads.replicas == {"b", "c"}
    loads.lose("b")
    assert loads.replicas == {"c"}
    assert loads.choose((), "three", 1) == []


def test_a_report_survives_as_statistics() -> None:
    assert load_of(stats_of(load(2.5, 4, 3))) == load(2.5, 4, 3)
    assert load_of({}) is None


def test_a_replica_reports_how_much_is_left_of_each_request(pipeline_folder: Path) -> None:
    settings = config_of("small", folder=pipeline_folder).models[0].read_settings()
    replica = Replica("a", settings, load_small)  # never started
    for images in ([[2] * 3], [[2] * 50] * 2, [[2] * 60]):
        replica.queue.offer(due_in(1e6, *images), steady_pace())
    assert stats_of(replica.load)["counts"] == ((0, 0), (0, 0), (1, 1), *[(0, 0)] * 3, (2, 3))
    assert replica.load.row_steps == 326
