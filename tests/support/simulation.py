"""Simulation: a scheduler on a clock of ticks, compared with processor sharing."""

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
    """A request that arrives before tick ``at``; its client hangs up before tick ``leaves``."""

    at: int
    job: Job
    leaves: int = NEVER


def image_rows(rng: random.Random, steps: int) -> list[int]:
    """The rows of an image that is unguided, guided, or guided in the middle of its steps."""
    begins, ends = rng.choice([(0, 0), (0, steps), (steps // 4, 3 * steps // 4)])
    return [2 if begins <= step < ends else 1 for step in range(steps)]


def traffic(
    seed: int, count: int, *, max_rows: int, load: float = 0.9, impatience: float = 0.0
) -> list[Arrival]:
    """Bursts of requests of 1 to 1000 steps and 1 to 16 images, most of them small.

    A few clients send most of them. ``impatience`` is the fraction of requests whose client hangs
    up, and the fraction of requests with a deadline that may pass.
    """
    rng = random.Random(seed)
    arrivals = []
    at = 0.0
    for i in range(count):
        steps = round(1000 ** (rng.random() ** 2))
        images = [image_rows(rng, steps)] * rng.choice([1, 1, 1, 1, 1, 2, 4, 16])
        patience = rng.randint(0, 3 * steps)
        leaves = int(at) + patience if rng.random() < impatience else NEVER
        deadline = at + 2 * steps + patience if rng.random() < impatience else at + NEVER
        client = f"client {min(rng.randrange(20), rng.randrange(20))}"
        name = f"{i}: {len(images)} x {steps}"
        new = job(name, *images, client=client, admitted=at, deadline=deadline)
        arrivals.append(Arrival(int(at), new, leaves))
        if rng.random() < 0.5:  # else the next one arrives at once
            at += rng.expovariate(0.5) * new.row_steps / (load * max_rows)
    return arrivals


class Sharing:
    """Weighted processor sharing, computed directly: every job gets a part of every tick."""

    def __init__(self) -> None:
        self.clock = 0.0
        self._left: dict[Job, float] = {}
        self._weights: dict[Job, float] = {}

    def add(self, new: Job) -> float:
        """Add a job; returns the weighted work at which sharing finishes it."""
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
    """Runs arrivals through a scheduler, checks every tick, and records when each job ended.

    Args:
        full: whether a tick may leave no row unused that an image could take.
    """

    def __init__(self, scheduler: Scheduler, band: float, *, full: bool = True) -> None:
        self.finished: dict[Job, int] = {}
        self.dropped: dict[Job, int] = {}
        self.shared: dict[Job, int] = {}  # the tick by which sharing ends it, a band later
        self.wasted = 0  # row-steps spent on jobs that were dropped
        self.tick = 0
        self._scheduler = scheduler
        self._full = full
        self._sharing = Sharing()
        self._band = band
        self._due: dict[Job, float] = {}
        self._steps: dict[Job, list[int]] = {}

    def run(self, arrivals: Sequence[Arrival], shrink_every: int = NEVER) -> None:
        """Run until all have ended; memory runs out every ``shrink_every`` ticks."""
        coming = list(reversed(arrivals))
        leaves = {arrival.job: arrival.leaves for arrival in arrivals}
        while coming or self._steps:
            if not self._steps:
                self.rest(until=coming[-1].at)
            while coming and coming[-1].at <= self.tick:
                self.add(coming.pop().job)
            for each in list(self._steps):
                if self.tick >= leaves[each] or self.tick > each.deadline:
                    self.drop(each)
            if self.tick % shrink_every == shrink_every - 1:
                self._scheduler.shrink(self._scheduler.row_limit)
            self.step()
        self.rest(until=self.tick)

    @property
    def open(self) -> list[Job]:
        """The jobs that have not ended."""
        return list(self._steps)

    def rest(self, until: int) -> None:
        """Skip to tick ``until``: no job is left, so sharing has finished as well."""
        self.shared |= dict.fromkeys(self._due, self.tick)
        self._due.clear()
        self._sharing = Sharing()
        self.tick = max(self.tick, until)

    def add(self, new: Job) -> None:
        """A job arrives."""
        self._scheduler.add(new)
        self._steps[new] = [0] * len(new.trajectories)
        self._due[new] = self._sharing.add(new) + self._band

    def drop(self, gone: Job) -> None:
        """A job's client hangs up, or its deadline passes."""
        images = self._scheduler.drop(gone)
        assert {(each.index, each.steps_done) for each in images} == {
            (i, steps)
            for i, steps in enumerate(self._steps[gone])
            if steps < gone.trajectories[i].steps
        }
        self.wasted += sum(self._rows_spent(gone, i) for i in range(len(gone.trajectories)))
        self._sharing.drop(gone)
        self._end(gone, self.dropped)
        self._due.pop(gone, None)

    def step(self) -> None:
        """One tick."""
        self._check_rows(self._scheduler.pick())
        rows = 0
        for task in step(self._scheduler):
            rows += self._rows_needed(task.job, task.index)
            self._steps[task.job][task.index] += 1
            images = range(len(task.job.trajectories))
            if not any(self._rows_needed(task.job, i) for i in images):
                self._end(task.job, self.finished)
        self._sharing.serve(rows)
        for each, due in list(self._due.items()):
            if self._sharing.idle or self._sharing.clock >= due - 1e-6:
                self.shared[each] = self.tick
                del self._due[each]
        self.tick += 1

    def _check_rows(self, picked: Sequence[ImageTask]) -> None:
        """No image twice, no more rows than allowed, and no row unused that an image could take."""
        assert picked or not self._steps, "jobs are left and nothing is picked"
        keys = {(task.job, task.index) for task in picked}
        assert len(keys) == len(picked)
        free_rows = self._scheduler.row_limit - sum(self._rows_needed(*key) for key in keys)
        assert free_rows >= 0
        unserved = self._images() - keys if free_rows and self._full else set()
        for key in unserved:
            assert self._rows_needed(*key) > free_rows, f"{key} could have been picked"

    def _images(self) -> set[tuple[Job, int]]:
        return {
            (each, i)
            for each in self._steps
            for i in range(len(each.trajectories))
            if self._rows_needed(each, i)
        }

    def _rows_needed(self, owner: Job, index: int) -> int:
        rows, done = owner.trajectories[index].rows, self._steps[owner][index]
        return rows[done] if done < len(rows) else 0

    def _rows_spent(self, owner: Job, index: int) -> int:
        return sum(owner.trajectories[index].rows[: self._steps[owner][index]])

    def _end(self, ended: Job, how: dict[Job, int]) -> None:
        assert ended not in self.finished | self.dropped
        how[ended] = self.tick
        del self._steps[ended]
