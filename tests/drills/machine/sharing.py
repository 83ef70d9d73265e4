"""Sharing: a state machine over the scheduler alone: no request waits much longer than with fair sharing."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from service.scheduling.fair import BAND_TICKS, FairScheduler
from service.scheduling.jobs import Job
from tests.support.jobs import job
from tests.support.simulation import Simulation

MAX_ROWS = 8
BAND = BAND_TICKS * MAX_ROWS
MOST_OPEN = 30

image = st.tuples(st.sampled_from((1, 2, 5, 30)), st.sampled_from((1, 2))).map(
    lambda drawn: [drawn[1]] * drawn[0]
)


class Sharing(RuleBasedStateMachine):
    """Requests come and leave, and memory runs out. `Simulation` checks every tick."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = FairScheduler(MAX_ROWS)
        self.simulation = Simulation(self.scheduler, BAND)
        self.least_rows = MAX_ROWS
        self.numbers = itertools.count()

    @initialize()
    def begin(self) -> None:
        """Nothing has happened."""

    @precondition(lambda self: len(self.simulation.open) < MOST_OPEN)
    @rule(
        images=st.lists(image, min_size=1, max_size=6),
        client=st.sampled_from("aaab"),
        count=st.integers(min_value=1, max_value=5),
        patience=st.integers(min_value=1, max_value=1000),
    )
    def come(self, images: list[list[int]], client: str, count: int, patience: int) -> None:
        now = self.simulation.tick
        for _ in range(count):
            name = str(next(self.numbers))
            self.simulation.add(
                job(name, *images, client=client, admitted=now, deadline=now + patience)
            )

    @precondition(lambda self: self.simulation.open)
    @rule(which=st.integers(min_value=0))
    def leave(self, which: int) -> None:
        self.simulation.drop(self.simulation.open[which % len(self.simulation.open)])
        self.rest_if_idle()

    @precondition(lambda self: self.simulation.open)
    @rule(ticks=st.integers(min_value=1, max_value=20))
    def work(self, ticks: int) -> None:
        for _ in range(ticks):
            if self.simulation.open:
                self.simulation.step()
        self.rest_if_idle()

    @rule()
    def run_out_of_memory(self) -> None:
        self.scheduler.shrink(self.scheduler.row_limit)
        self.least_rows = min(self.least_rows, self.scheduler.row_limit)

    def teardown(self) -> None:
        while self.simulation.open:
            self.simulation.step()
        self.rest_if_idle()
        for each, ended in self.simulation.finished.items():
            assert ended <= self.latest_end(each), f"{each.id} waited too long"

    def rest_if_idle(self) -> None:
        if not self.simulation.open:
            self.simulation.rest(until=self.simulation.tick)

    def latest_end(self, of: Job) -> int:
        """By which tick it ends at the latest: that of fair sharing with a band of extra work, the steps of
        its longest image, and the ticks of the work for requests that left."""
        serial = max(planned.steps for planned in of.trajectories)
        wasted = self.simulation.wasted // max(1, self.least_rows - 1)
        return self.simulation.shared[of] + serial + wasted
