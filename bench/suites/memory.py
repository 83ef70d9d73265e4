"""Memory: the service's resident set over thousands of requests. Long, and only run by name."""

from __future__ import annotations

from dataclasses import dataclass

from bench.load.clients import closed_loop
from bench.load.servers import running_server
from bench.load.workload import uniform
from bench.models.folders import BUNDLED, XL_256
from bench.options import Options
from bench.report.figures import Figure, Measured, Spread, Table
from bench.suites.arms import CFG_SCALE, CLASSES
from bench.suites.peers import our_server

CLIENTS = 16


@dataclass(frozen=True, slots=True)
class Memory:
    model: str
    steps: int
    requests_between: int
    samples: int

    @classmethod
    def planned(cls, options: Options) -> Memory:
        (model,) = options.models(options.by_device(BUNDLED, XL_256))
        return cls(model, 4, options.pick(1000, 8), options.pick(10, 2))

    def run(self, options: Options) -> Measured:
        rows: list[tuple[float, float | None]] = []
        with running_server(our_server(self.model, options), options) as server:
            rows.append((0.0, server.memory_mib("VmRSS")))
            for sample in range(self.samples):
                orders = uniform(
                    self.requests_between,
                    classes=CLASSES,
                    steps=self.steps,
                    cfg_scale=CFG_SCALE,
                    seed=sample,
                )
                closed_loop(server.url, orders, CLIENTS)
                done = float((sample + 1) * self.requests_between)
                rows.append((done, server.memory_mib("VmRSS")))
        table = Table(f"{self.model}: resident set", ("requests", "MiB"), tuple(rows))
        grown = [
            after - before for _, before in rows[1:2] for _, after in rows[-1:] if after and before
        ]
        figures = [Figure("grown_mib", "after the first thousand", "MiB", Spread(tuple(grown)))]
        return Measured(tuple(figures) if grown else (), (table,))
