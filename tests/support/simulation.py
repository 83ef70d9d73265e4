"""Simulation: the scheduler on a clock of ticks, beside the sharing that it is measured against."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from service.scheduling.jobs import ImageTask, Job
from service.scheduling.scheduler import Scheduler
from tests.support.jobs import job, step

NEVER = 10**9


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that comes before tick ``at``; the client hangs up before tick ``leaves``."""

    at: int
    job: Job
    leaves: int = NEVER


def image_rows(draw: random.Random, steps: int) -> list[int]:
    """Unguided, guided, or guided over a part of its steps."""
    begins, ends = draw.choice([(0, 0), (0, steps), (steps // 4, 3 * steps // 4)])
    return [2 if begins <= step < ends else 1 for step in range(steps)]


def traffic(
    seed: int, count: int, *, max_rows: int, load: float = 0.9, impatience: float = 0.0
) -> list[Arrival]:
    """Requests of 1 to 1000 steps and 1 to 16 images, small ones the most, in bursts.

    A few clients send most of them. ``impatience`` is the share of clients that hang up, and as
    many have a deadline that may pass.
    """
    draw = random.Random(seed)
    arrivals = []
    at = 0.0
    for i in range(count):
        steps = round(1000 ** (draw.random() ** 2))
        images = [image_rows(draw, steps)] * draw.choice([1, 1, 1, 1, 1, 2, 4, 16])
        patience = draw.randint(0, 3 * steps)
        leaves = int(at) + patience if draw.random() < impatience else NEVER
        deadline = at + 2 * steps + patience if draw.random() < impatience else at + NEVER
        client = f"client {min(draw.randrange(20), draw.randrange(20))}"
        name = f"{i}: {len(images)} x {steps}"
        new = job(name, *images, client=client, admitted=at, deadline=deadline)
        arrivals.append(Arrival(int(at), new, leaves))
        if draw.random() < 0.5:  # else the next one comes at once
            at += draw.expovariate(0.5) * new.row_steps / (load * max_rows)
    return arrivals


class Sharing:
    """Weighted processor sharing, reckoned the plain way: everybody gets a part of every tick."""

    def __init__(self) -> None:
        self.clock = 0.0
        self._left: dict[Job, float] = {}
        self._weights: dict[Job, float] = {}

    def add(self, new: Job) -> float:
        """Returns the weighted work after which sharing is through with it."""
        count = 1 + sum(other.client == new.client for other in self._left)
        self._left[new], self._weights[new] = new.row_steps, 1 / count
        return self.clock + count * new.row_steps

    def serve(self, work: float) -> None:
        while self._left and work > 1e-9:
            total = sum(self._weights[each] for each in self._left)
            first = min(left / self._weights[each] for each, left in self._left.items())
            part = min(first, work / total)
            self.clock += part
            work -= part * total
            left = {each: left - part * self._weights[each] for each, left in self._left.items()}
            self._left = {each: rest for each, rest in left.items() if rest > 1e-6}

    def drop(self, gone: Job) -> None:
        self._left.pop(gone, None)

    @property
    def idle(self) -> bool:
        return not self._left


class Simulation:
    """Runs arrivals through a scheduler and checks every tick; keeps when each job ended."""

    def __init__(self, scheduler: Scheduler, slots: int, band: float) -> None:
        self.finished: dict[Job, int] = {}
        self.dropped: dict[Job, int] = {}
        self.shared: dict[Job, int] = {}  # the tick by which sharing had ended it, a band later
        self.burnt = 0  # row-steps spent on jobs that were dropped
        self.tick = 0
        self._scheduler = scheduler
        self._sharing = Sharing()
        self._slots = slots
        self._band = band
        self._due: dict[Job, float] = {}
        self._steps: dict[Job, list[int]] = {}
        self._flying: set[tuple[Job, int]] = set()

    def run(self, arrivals: Sequence[Arrival], shrink_every: int = NEVER) -> None:
        """To the end of the last one; every so many ticks memory runs out."""
        coming = list(reversed(arrivals))
        leaves = {arrival.job: arrival.leaves for arrival in arrivals}
        while coming or self._steps:
            if not self._steps:
                self._rest(until=coming[-1].at)
            while coming and coming[-1].at <= self.tick:
                self._add(coming.pop().job)
            for each in list(self._steps):
                if self.tick >= leaves[each] or self.tick > each.deadline:
                    self._drop(each)
            if self.tick % shrink_every == shrink_every - 1:
                self._scheduler.shrink(self._scheduler.row_limit)
            self._step()
            self.tick += 1
        self._rest(until=self.tick)

    def _rest(self, until: int) -> None:
        """Nobody is in, so sharing would be through as well."""
        self.shared |= dict.fromkeys(self._due, self.tick)
        self._due.clear()
        self._sharing = Sharing()
        self.tick = max(self.tick, until)

    def _add(self, new: Job) -> None:
        self._scheduler.add(new)
        self._steps[new] = [0] * len(new.trajectories)
        self._due[new] = self._sharing.add(new) + self._band

    def _drop(self, gone: Job) -> None:
        images = self._scheduler.drop(gone)
        assert {(each.index, each.steps_done) for each in images} == {
            (i, steps)
            for i, steps in enumerate(self._steps[gone])
            if steps < gone.trajectories[i].steps
        }
        self.burnt += gone.row_steps - sum(each.row_steps_left for each in images)
        self._sharing.drop(gone)
        self._end(gone, self.dropped)
        self._due.pop(gone, None)

    def _step(self) -> None:
        self._check_rows(self._scheduler.pick())
        rows = 0
        for sample in step(self._scheduler):
            key = sample.job, sample.index
            rows += self._need(*key)
            self._steps[sample.job][sample.index] += 1
            self._flying.add(key)
            if not self._need(*key):
                self._flying.discard(key)
                if not any(self._need(sample.job, i) for i in range(len(self._steps[sample.job]))):
                    self._end(sample.job, self.finished)
        assert len(self._flying) <= self._slots
        self._sharing.serve(rows)
        for each, due in list(self._due.items()):
            if self._sharing.idle or self._sharing.clock >= due - 1e-6:
                self.shared[each] = self.tick
                del self._due[each]

    def _check_rows(self, picked: Sequence[ImageTask]) -> None:
        """Nobody twice, no more rows than allowed, and no row left that somebody could use."""
        assert picked or not self._steps, "somebody is in and nothing is done"
        keys = {(sample.job, sample.index) for sample in picked}
        assert len(keys) == len(picked)
        free_rows = self._scheduler.row_limit - sum(self._need(*key) for key in keys)
        free_slots = self._slots - len(self._flying | keys)
        assert free_rows >= 0
        assert free_slots >= 0
        unserved = self._images() - keys if free_rows else set()
        for key in unserved:
            could = self._need(*key) <= free_rows and (key in self._flying or free_slots)
            assert not could, f"{key} could have been picked"

    def _images(self) -> set[tuple[Job, int]]:
        return {
            (each, i)
            for each in self._steps
            for i in range(len(each.trajectories))
            if self._need(each, i)
        }

    def _need(self, owner: Job, index: int) -> int:
        rows, done = owner.trajectories[index].rows, self._steps[owner][index]
        return rows[done] if done < len(rows) else 0

    def _end(self, ended: Job, how: dict[Job, int]) -> None:
        assert ended not in self.finished | self.dropped
        how[ended] = self.tick
        del self._steps[ended]
        self._flying = {key for key in self._flying if key[0] is not ended}
