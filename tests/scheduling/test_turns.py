"""Turns: those that are refused come back one after the other, and are let in."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass, field
from statistics import mean

import pytest

from service.errors import DeadlinePassed, QueueFull
from service.scheduling.admission import AdmissionQueue
from service.scheduling.jobs import Job
from service.scheduling.turns import LEAST_GRACE_S, LONGEST_S, MOST, MOST_OF_A_CLIENT, Turns
from tests.support.jobs import job, steady_pace

TEN = [2] * 5
WORK = 10
ROOM_S = 1.0


def a_second_for_ten(row_steps: int) -> float:
    return row_steps / 10


def give(turns: Turns, client: str, now: float = 0.0, row_steps: int = WORK) -> float:
    return turns.give(client, row_steps, now, ROOM_S, a_second_for_ten)


def test_each_turn_comes_after_those_before_it() -> None:
    turns = Turns()
    assert [give(turns, client) for client in "abc"] == [1.0, 2.0, 3.0]
    assert [turns.come(client, 2.0) for client in "abc"] == [True, True, False]


def test_a_client_that_asks_a_lot_delays_itself() -> None:
    turns = Turns()
    assert [give(turns, "greedy") for _ in range(5)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert give(turns, "other") == 2.0  # after the first of the greedy one
    assert give(turns, "greedy") == 7.0


def test_room_is_kept_for_others_until_their_turn_is_used_or_over() -> None:
    turns = Turns()
    give(turns, "a")
    give(turns, "b")
    assert turns.work_of_others("a", 0.0) == turns.work_of_others("b", 0.0) == WORK
    assert turns.work_of_others("c", 0.0) == 2 * WORK
    turns.use("a", 0.0)
    assert turns.work_of_others("c", 0.0) == WORK
    over = 2.0 + LEAST_GRACE_S
    assert turns.work_of_others("c", over) == WORK
    assert turns.work_of_others("c", over + 0.1) == 0
    assert not turns.come("b", over + 0.1)


def test_a_turn_without_room_is_followed_by_another_after_those_that_are_due() -> None:
    turns = Turns()
    for client in "abc":
        give(turns, client)
    waits = [turns.postpone(each, WORK, 3.0, ROOM_S, a_second_for_ten) for each in "abc"]
    assert waits == [3.0, 2.0, 1.0]
    assert not turns.come("a", 5.0)
    assert turns.come("a", 6.0)


def test_a_postponed_turn_does_not_hide_a_later_one_of_the_same_client() -> None:
    turns = Turns()
    for client in ("a", "a", "b", "c"):
        give(turns, client)
    turns.postpone("a", WORK, 2.0, 10.0, a_second_for_ten)
    assert turns.come("a", 3.0)  # its second
    turns.use("a", 3.0)
    assert not turns.come("a", 3.0)
    assert turns.work_of_others("", 3.0) == 3 * WORK


def test_a_turn_that_is_over_is_dropped_behind_one_that_is_not() -> None:
    turns = Turns()
    give(turns, "a")
    give(turns, "b")
    turns.postpone("a", WORK, 1.0, 30.0, a_second_for_ten)
    assert turns.work_of_others("", 5.0) == WORK


def test_turns_that_nobody_uses_count_less_and_less() -> None:
    turns = Turns()
    for i in range(200):
        assert turns.work_of_others("", 100.0 * i) == 0  # the one before is over
        give(turns, f"gone {i}", now=100.0 * i)
    late = 100.0 * 200
    assert turns.work_of_others("", late) == 0
    give(turns, "a", late)
    assert give(turns, "b", late) == pytest.approx(ROOM_S + 0.05, abs=0.01)


def test_a_request_that_is_refused_for_its_deadline_leaves_its_client_its_turn() -> None:
    now = 0.0
    queue, pace = AdmissionQueue(2 * WORK, clock=lambda: now), steady_pace(1.0, max_rows=10)
    running = [job(name, TEN) for name in ("one", "two")]
    for each in running:
        queue.offer(each, pace)
    with pytest.raises(QueueFull) as refused:
        queue.offer(job("a", TEN), pace)
    queue.forget(running[0])
    now = refused.value.retry_after_s or 0.0
    with pytest.raises(DeadlinePassed):
        queue.offer(job("too late", TEN, client="a", deadline=now), pace)
    with pytest.raises(QueueFull, match="others were told to come back first"):
        queue.offer(job("other", TEN), pace)
    queue.offer(job("in time", TEN, client="a"), pace)
    queue.forget(running[1])
    queue.offer(job("other", TEN), pace)  # the turn is used


def test_neither_waits_nor_turns_are_without_a_limit() -> None:
    turns = Turns()
    for i in range(MOST):
        give(turns, f"client {i}")
    assert give(turns, "one more") == LONGEST_S
    assert turns.work_of_others("", 0.0) == WORK * MOST
    greedy = Turns()
    for _ in range(10 * MOST_OF_A_CLIENT):
        give(greedy, "greedy")
    assert greedy.work_of_others("", 0.0) == WORK * MOST_OF_A_CLIENT


@dataclass(slots=True)
class Crowd:
    """Clients that ask, wait as they are told, and ask again; a device that works steadily.

    Args:
        clients: how many; each asks again when it has been served, after ``pause_s`` on average.
        strangers_per_s: requests besides, each of a client of its own that does not come back.
    """

    clients: int
    pause_s: float = 0.0
    strangers_per_s: float = 0.0
    heeds: float = 1.0
    limit: int = 40 * WORK
    row_steps_per_s: float = 100.0
    estimated_per_s: float = 100.0
    now: float = 0.0
    tries: list[int] = field(default_factory=list)
    done: int = 0

    def run(self, seconds: float) -> None:
        chance = random.Random(1)
        queue = AdmissionQueue(self.limit, clock=lambda: self.now)
        pace = steady_pace(seconds_per_tick=10 / self.estimated_per_s, max_rows=10)
        count = itertools.count()
        tried: dict[str, int] = {}
        events: list[tuple[float, int, str, Job | None]] = []
        free_at = 0.0

        def at(when: float, client: str, finished: Job | None = None) -> None:
            heapq.heappush(events, (when, next(count), client, finished))

        for i in range(self.clients):
            at(chance.random(), f"client {i}")
        if self.strangers_per_s:
            at(0.0, "stranger")
        while events[0][0] < seconds:
            self.now, number, client, finished = heapq.heappop(events)
            if finished is not None:
                queue.forget(finished)
                self.done += 1
                if client in tried:
                    at(self.now + 2 * self.pause_s * chance.random(), client)
                continue
            name = client
            if client == "stranger":
                name = f"stranger {number}"
                at(self.now + chance.expovariate(self.strangers_per_s), client)
            else:
                tried[client] = tried.get(client, -1) + 1
            new = job(name, TEN, deadline=1e9, admitted=self.now)
            try:
                queue.offer(new, pace)
            except QueueFull as refused:
                if name == client:
                    told = math.ceil(refused.retry_after_s or 0)
                    heeded = 1.0 if chance.random() < self.heeds else 0.3
                    at(self.now + heeded * told * (1 + 0.25 * chance.random()), client)
            else:
                queue.take()
                if name == client:
                    if tried[client] and self.now > seconds / 4:
                        self.tries.append(tried[client])
                    tried[client] = -1
                free_at = max(free_at, self.now) + WORK / self.row_steps_per_s
                at(free_at, name, new)

    @property
    def in_at_the_second_try(self) -> float:
        """The share of those refused that were let in when they came back for the first or second time."""
        return mean(each <= 2 for each in self.tries)


@pytest.mark.parametrize(
    "crowd",
    [
        Crowd(clients=400),
        Crowd(clients=60),
        Crowd(clients=400, pause_s=5.0),
        Crowd(clients=400, row_steps_per_s=200.0),
        Crowd(clients=40, strangers_per_s=90.0),
    ],
)
def test_whoever_waits_as_told_is_let_in_at_the_first_or_second_try(crowd: Crowd) -> None:
    seconds = 200.0
    crowd.run(seconds)
    assert len(crowd.tries) > 20
    assert crowd.in_at_the_second_try > 0.95
    assert crowd.done * WORK > 0.97 * crowd.row_steps_per_s * seconds  # the device is never idle


@pytest.mark.parametrize(
    "crowd",
    [
        Crowd(clients=400, heeds=0.7),
        Crowd(clients=400, row_steps_per_s=50.0),  # half of what the first were told
    ],
)
def test_neither_the_impatient_nor_a_wrong_estimate_keep_the_patient_out(crowd: Crowd) -> None:
    crowd.run(200.0)
    assert crowd.in_at_the_second_try > 0.7
