"""Start: from the process's start to the first readiness, and what memory it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.load.clients import closed_loop
from bench.load.metrics import read_metrics
from bench.load.servers import running_server
from bench.load.workload import uniform
from bench.models.folders import BUNDLED, XL_256
from bench.options import Options
from bench.report.figures import Figure, Measured, Spread, Table
from bench.suites.arms import CFG_SCALE, CLASSES
from bench.suites.peers import our_server


@dataclass(frozen=True, slots=True)
class Start:
    model: str
    starts: int
    clients: int
    steps: int

    @classmethod
    def planned(cls, options: Options) -> Start:
        (model,) = options.models(options.by_device(BUNDLED, XL_256))
        clients = options.pick(options.by_device(32, 64), 2)
        return cls(model, options.pick(6, 2), clients, options.pick(20, 2))

    def run(self, options: Options) -> Measured:
        seen = [self._start(options) for _ in range(self.starts)]
        first, others = seen[0], seen[1:]
        warm = Spread(tuple(one.seconds for one in others))
        rows = (
            ("the first in this run, s", first.seconds),
            ("the others, s", warm),
            ("most resident memory when ready, MiB", first.ready_mib),
            (f"the same after {self.clients} images at once, MiB", first.loaded_mib),
            ("device memory reserved, MiB", first.device_mib),
        )
        table = Table(f"{self.model}: process start to ready", ("", ""), rows)
        figure = Figure("warm_s", "process start to ready, warm", "s", warm)
        return Measured((figure,), (table,), (NOTE,))

    def _start(self, options: Options) -> Started:
        began = time.perf_counter()
        with running_server(our_server(self.model, options), options) as server:
            seconds = time.perf_counter() - began
            ready = server.memory_mib()
            orders = uniform(self.clients, classes=CLASSES, steps=self.steps, cfg_scale=CFG_SCALE)
            closed_loop(server.url, orders, self.clients)
            reserved = read_metrics(server.url).get(("dit_gpu_memory_bytes", 'kind="reserved"'))
            device = None if reserved is None else reserved / 2**20
            return Started(seconds, ready, server.memory_mib(), device)


@dataclass(frozen=True, slots=True)
class Started:
    seconds: float
    ready_mib: float | None
    loaded_mib: float | None
    device_mib: float | None


NOTE = (
    "The first start of the run is as cold as the system's file cache happens to be; the others find"
    " every file in it. Ready is the first 200 from /readyz, asked for every 10 ms."
)
