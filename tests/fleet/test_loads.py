"""The choice of a replica by the work that it has left."""

from __future__ import annotations

import pytest

from service.fleet.exchange import Load
from service.fleet.loads import ReplicaLoads, load_of, stats_of
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def loads(clock: Clock) -> ReplicaLoads:
    return ReplicaLoads(clock)


def test_work_counts_and_not_requests(loads: ReplicaLoads) -> None:
    assert loads.choose("ab", "long", 100)[0] == "a"
    assert [loads.choose("ab", f"short {i}", 8)[0] for i in range(5)] == ["b"] * 5


def test_equal_replicas_take_turns(loads: ReplicaLoads) -> None:
    firsts = []
    for number in range(6):
        firsts.append(loads.choose("abc", str(number), 5)[0])
        loads.ended(str(number))
    assert firsts == ["a", "b", "c", "a", "b", "c"]


def test_a_report_counts_what_others_sent(loads: ReplicaLoads, clock: Clock) -> None:
    loads.report("a", Load(500, clock.now))
    assert loads.choose("ab", "mine", 400)[0] == "b"
    assert loads.choose("ab", "next", 1)[0] == "b"


def test_work_that_a_report_includes_is_not_counted_twice(
    loads: ReplicaLoads, clock: Clock
) -> None:
    assert loads.choose("ab", "first", 100)[0] == "a"
    assert loads.choose("ab", "second", 60)[0] == "b"
    clock.now += 1.0
    loads.report("a", Load(10, clock.now))  # nearly done
    assert loads.choose("ab", "third", 1)[0] == "a"


def test_work_sent_just_before_a_report_is_counted(loads: ReplicaLoads, clock: Clock) -> None:
    assert loads.choose("ab", "first", 100)[0] == "a"
    loads.report("a", Load(0, clock.now + 0.01))
    assert loads.choose("ab", "second", 1)[0] == "b"


def test_an_old_report_changes_nothing(loads: ReplicaLoads, clock: Clock) -> None:
    loads.report("a", Load(0, clock.now))
    loads.report("a", Load(900, clock.now - 1.0))
    loads.report("b", Load(5, clock.now))
    assert loads.choose("ab", "one", 1)[0] == "a"


def test_those_to_avoid_are_last_but_better_than_none(loads: ReplicaLoads, clock: Clock) -> None:
    loads.report("b", Load(900, clock.now))
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
    assert load_of(stats_of(Load(7, 2.5))) == Load(7, 2.5)
    assert load_of({}) is None
