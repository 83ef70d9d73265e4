"""Loaded: throughput of our server over HTTP with every tick full."""

from __future__ import annotations

from dataclasses import dataclass

from bench.load.clients import closed_loop
from bench.load.metrics import difference, read_metrics, rows_per_tick, waste
from bench.load.servers import running_server
from bench.load.workload import uniform
from bench.options import Options
from bench.peers.specs import our_server
from bench.report.figures import Measured, Spread, Table, percentile
from bench.suites.serving import Serving


@dataclass(frozen=True, slots=True)
class Loaded:
    """The clients of the serving suite at our server alone, without its peers."""

    model: str
    clients: int
    images: int
    steps: int
    rounds: int

    @classmethod
    def planned(cls, options: Options) -> Loaded:
        full = Serving.planned(options)
        return cls(full.model, full.clients, full.images, full.steps, options.pick(2, 1))

    def run(self, options: Options) -> Measured:
        rates, steady = [], []
        with running_server(our_server(options)) as server:
            before = read_metrics(server.url)
            for _ in range(self.rounds):
                run = closed_loop(server.url, uniform(self.images, steps=self.steps), self.clients)
                rates.append(self.images / run.seconds)
                steady.append(run.steady_rate(self.clients))
            added = difference(read_metrics(server.url), before)
        figures = {"images_per_s": Spread(tuple(rates)), "steady_per_s": Spread(tuple(steady))}
        rows = (
            ("images/s, first request to last answer", figures["images_per_s"]),
            ("images/s while all clients were busy", figures["steady_per_s"]),
            ("latency, p50 s", percentile(run.latencies(), 50)),
            ("latency, p95 s", percentile(run.latencies(), 95)),
            ("rows per tick", rows_per_tick(added)),
            ("fraction of row-steps wasted", waste(added)),
        )
        title = f"{self.model}: {self.clients} clients, {self.steps} guided steps, PNG over HTTP"
        return Measured(figures, (Table(title, ("what", "value"), rows),))
