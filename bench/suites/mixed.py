"""Mixed: latency over HTTP under mixed load at given rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.load.clients import LoadRun, closed_loop, open_loop
from bench.load.metrics import Samples, difference, read_metrics, rows_per_tick, waste
from bench.load.servers import Server, running_servers
from bench.load.workload import STEPS, mixed, poisson
from bench.options import Options
from bench.peers.specs import OURS, STATIC, our_server, static_server
from bench.report.figures import Cell, Measured, Spread, Table, percentile

TARGET_LOAD = 0.8
NOTE = (
    "Latency counts from the scheduled arrival; a failed request counts as its timeout. Capacity is the"
    " rate of a closed loop while all of its clients are busy. Waste is padding and row-steps of"
    " undelivered images, as a fraction of all row-steps. The static batcher is our own service with"
    " another scheduler: a batch runs to its end, then the waiting requests form the next one, up to the"
    " rows of a tick; it delivers finished images at once and stops computing their rows. The longest"
    " requests determine p95, and both arms serve them late; latency divided by the request's steps"
    " shows how long a short request waits for its size."
)


@dataclass(frozen=True, slots=True)
class Point:
    """One load; ``load`` is its rate as a fraction of our capacity."""

    steps: str
    load: float
    rounds: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.load:g} of capacity ({self.steps} steps, {self.rounds} x {self.seconds:g} s)"


@dataclass(frozen=True, slots=True)
class Mixed:
    """Requests of all sizes that arrive by a Poisson process, whether or not the server keeps up."""

    model: str
    capacity_requests: int
    clients: int
    timeout_s: float
    points: tuple[Point, ...]

    @classmethod
    def planned(cls, options: Options) -> Mixed:
        full = (
            Point("uniform", TARGET_LOAD, 3, 45.0),
            Point("log-uniform", TARGET_LOAD, 3, 45.0),
        )
        return cls(
            model=options.served_model,
            capacity_requests=options.pick(192, 8),
            clients=options.by_device(32, 128),
            timeout_s=60.0,
            points=options.pick(full, (Point("uniform", TARGET_LOAD, 1, 3.0),)),
        )

    def run(self, options: Options) -> Measured:
        specs = {OURS: our_server(options), STATIC: static_server(options)}
        with running_servers(specs) as servers:
            for server in servers.values():  # a warm-up
                self._capacity(server, "uniform", self.capacity_requests // 8)
            capacities = {
                (steps, name): self._capacity(server, steps, self.capacity_requests)
                for steps in dict.fromkeys(point.steps for point in self.points)
                for name, server in servers.items()
            }
            results = {
                point: self._rounds(point, servers, capacities[point.steps, OURS])
                for point in self.points
            }
        rows = tuple((*place, rate) for place, rate in capacities.items())
        table = Table("Capacity in a closed loop", ("steps drawn", "arm", "requests/s"), rows)
        return Measured(_p95_ratios(results), (table, self._latencies(results)), (NOTE,))

    def _capacity(self, server: Server, steps: str, requests: int) -> float:
        """Requests/s of a closed loop."""
        asks = mixed(requests, seed=99, timeout_s=3000.0, steps=STEPS[steps])
        return closed_loop(server.url, asks, self.clients).steady_rate(self.clients)

    def _rounds(
        self, point: Point, servers: Mapping[str, Server], capacity: float
    ) -> dict[str, list[PointRun]]:
        """Each round has its own schedule, the same for both arms."""
        rate = point.load * capacity
        count = max(2, round(rate * point.seconds))
        runs: dict[str, list[PointRun]] = {name: [] for name in servers}
        for seed in range(point.rounds):
            asks = mixed(count, seed=seed, timeout_s=self.timeout_s, steps=STEPS[point.steps])
            schedule = poisson(asks, rate, seed)
            for name, server in servers.items():
                before = read_metrics(server.url)
                run = open_loop(server.url, schedule)
                counts = difference(read_metrics(server.url), before)
                runs[name].append(PointRun(rate, run, counts))
        return runs

    def _latencies(self, results: Mapping[Point, Mapping[str, list[PointRun]]]) -> Table:
        title = (
            f"{self.model}: steps 10 .. 250, guidance 1 .. 8, all samplers;"
            f" a request not answered within {self.timeout_s:g} s fails"
        )
        rows = tuple(
            (point.steps, point.load, name, rounds[0].rate, *_cells(rounds, arms[OURS]))
            for point, arms in results.items()
            for name, rounds in arms.items()
        )
        return Table(title, (*HEADER, *COLUMNS, *RATIOS), rows)


@dataclass(frozen=True, slots=True)
class PointRun:
    """One round of one arm: requests offered per second, their outcomes, counters of the service."""

    rate: float
    run: LoadRun
    counts: Samples

    def latency(self, percent: float) -> float:
        return percentile(self.run.latencies(), percent)


P95, PER_STEP = "p95, s", "p95 per step, ms"
HEADER = ("steps drawn", "load / our capacity", "arm", "offered/s")
COLUMNS: dict[str, Callable[[PointRun], float]] = {
    "goodput/s": lambda one: one.run.goodput,
    "p50, s": lambda one: one.latency(50),
    P95: lambda one: one.latency(95),
    "p99, s": lambda one: one.latency(99),
    PER_STEP: lambda one: 1e3 * percentile(one.run.latencies_per_step(), 95),
    "rows per tick": lambda one: rows_per_tick(one.counts),
    "waste": lambda one: waste(one.counts),
}
RATIOS = {"p95 / ours": P95, "p95 per step / ours": PER_STEP}


def _spread(column: str, rounds: list[PointRun]) -> Spread:
    return Spread(tuple(COLUMNS[column](one) for one in rounds))


def _cells(rounds: list[PointRun], ours: list[PointRun]) -> list[Cell]:
    spreads = {column: _spread(column, rounds) for column in COLUMNS}
    return [
        *spreads.values(),
        *(spreads[name].over(_spread(name, ours)) for name in RATIOS.values()),
    ]


def _p95_ratios(results: Mapping[Point, Mapping[str, list[PointRun]]]) -> dict[str, Spread]:
    return {
        f"p95.{point.steps}.{point.load:g}": _spread(P95, arms[STATIC]).over(ours)
        for point, arms in results.items()
        for ours in [_spread(P95, arms[OURS])]
    }
