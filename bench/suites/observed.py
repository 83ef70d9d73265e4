"""Observed: a load on a real service, with what its device did meanwhile, to be simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.load.clients import LoadRun, closed_loop, open_loop
from bench.load.servers import Server
from bench.load.stretches import Stretch, watched
from bench.load.workload import STEPS, Ask, mixed
from bench.report.figures import Table, percentile
from bench.simulate.curve import TickCurve
from bench.simulate.engine import Slowness, steady
from bench.simulate.fleet import simulate
from bench.simulate.observed import observed_curve, observed_slowness
from bench.simulate.traffic import requests_of
from bench.suites.likeness import Figures, simulated_figures
from service.scheduling.fair import fair_scheduler

TIMEOUT_S = 600.0
MAX_ROWS = 32
CURVE_CLIENTS = (1, 3, 8, 24)
ASKS_EACH = 4


@dataclass(frozen=True, slots=True)
class Observed:
    """A load on a real service, and what its device did."""

    schedule: Sequence[tuple[float, Ask]]
    run: LoadRun
    stretches: Sequence[Stretch]
    curve: TickCurve

    @classmethod
    def of(cls, server: Server, schedule: Sequence[tuple[float, Ask]]) -> Observed:
        with watched(server.url) as stretches:
            run = open_loop(server.url, schedule)
        curve = observed_curve(stretches, images=len(schedule), max_rows=MAX_ROWS)
        return cls(schedule, run, stretches, curve)

    def simulated(self, *, steadily: bool = False) -> Figures:
        """The same requests on this device, or on one that is always as fast as this one on average."""
        slowness = steady if steadily else self._slowness
        requests = requests_of(self.schedule)
        return simulated_figures(simulate(self.curve, requests, fair_scheduler, slowness=slowness))

    def device_table(self) -> Table:
        """What the simulation was given."""
        ends = [each.began - self.run.began for each in self.stretches]
        factors = [self._slowness(end) for end in ends]
        slowness = tuple(percentile(factors, q) for q in (5, 50, 95))
        header = ("tick of 1 row, s", f"of {MAX_ROWS}", "decode, s", "slowness p5", "p50", "p95")
        seconds = (self.curve.seconds(1), self.curve.seconds(MAX_ROWS), self.curve.decode_s)
        return Table("The device during the load", header, ((*seconds, *slowness),))

    @property
    def _slowness(self) -> Slowness:
        return observed_slowness(self.stretches, self.curve, self.run.began)


def busy_curve(server: Server) -> TickCurve:
    """Of a service with clients that always have a request in: few, more, and many of them."""
    stretches: list[Stretch] = []
    images = 0
    for clients in CURVE_CLIENTS:
        asks = mixed(ASKS_EACH * clients, seed=3, timeout_s=TIMEOUT_S, steps=STEPS["log-uniform"])
        with watched(server.url) as some:
            closed_loop(server.url, asks, clients)
        stretches += some
        images += len(asks)
    return observed_curve(stretches, images=images, max_rows=MAX_ROWS)
