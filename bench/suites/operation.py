"""Operation: what matters to whoever runs the service: start, memory, reproducible mode."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bench.load.clients import closed_loop
from bench.load.metrics import read_metrics
from bench.load.servers import Server, running_server, running_servers
from bench.load.workload import uniform
from bench.options import Options
from bench.peers.specs import our_server
from bench.report.figures import Cell, Figure, Measured, Spread, Table
from bench.suites.rounds import interleaved

ON, OFF = "reproducible", "default"
SOAK_STEPS = 4
SOAK_CLIENTS = 16

NOTE = (
    "The first start is as cold as the system's file cache happens to be; the others find every file in"
    " it. Ready is the first 200 from /readyz, polled every 10 ms. Resident memory over 10000 requests is"
    " measured with `--soak`."
)


@dataclass(frozen=True, slots=True)
class Operation:
    """Start-up time, memory, and the price of DIT_REPRODUCIBLE=1."""

    model: str
    starts: int
    start_steps: int
    clients: int
    steps: int
    images: int
    alone: int
    rounds: int
    soak_requests: tuple[int, ...]

    @classmethod
    def planned(cls, options: Options) -> Operation:
        clients = options.pick(options.by_device(32, 64), 4)
        soak = options.pick((1000,) * 10, (8, 8)) if options.soak else ()
        return cls(
            model=options.served_model,
            starts=options.pick(6, 2),
            start_steps=options.pick(20, 2),
            clients=clients,
            steps=options.pick(50, 4),
            images=2 * clients,
            alone=options.pick(4, 1),
            rounds=options.pick(5, 2),
            soak_requests=soak,
        )

    def run(self, options: Options) -> Measured:
        parts = [self._starts(options), self._reproducible(options)]
        if self.soak_requests:
            parts.append(self._soak(options))
        figures = tuple(figure for figures, _ in parts for figure in figures)
        return Measured(figures, tuple(table for _, table in parts), (NOTE,))

    def _starts(self, options: Options) -> tuple[list[Figure], Table]:
        first, *others = [self._start(options) for _ in range(self.starts)]
        warm = Spread(tuple(one.seconds for one in others))
        rows: tuple[tuple[Cell, ...], ...] = (
            ("first start, s", first.seconds),
            ("later starts, s", warm),
            ("peak resident memory when ready, MiB", first.ready_mib),
            (f"the same after {self.clients} concurrent images, MiB", first.loaded_mib),
            ("device memory reserved, MiB", first.device_mib),
        )
        table = Table(f"{self.model}: process start to ready", ("", ""), rows)
        return [Figure("warm_s", "process start to ready, warm", "s", warm)], table

    def _start(self, options: Options) -> Started:
        began = time.perf_counter()
        with running_server(our_server(options)) as server:
            seconds = time.perf_counter() - began
            ready = server.memory_mib("VmHWM")
            closed_loop(server.url, uniform(self.clients, steps=self.start_steps), self.clients)
            reserved = read_metrics(server.url).get(("dit_gpu_memory_bytes", "reserved"))
            device = None if reserved is None else reserved / 2**20
            return Started(seconds, ready, server.memory_mib("VmHWM"), device)

    def _reproducible(self, options: Options) -> tuple[list[Figure], Table]:
        """The time of the same requests with and without DIT_REPRODUCIBLE=1."""
        loads = {"loaded": (self.images, self.clients), "alone": (self.alone, 1)}
        specs = {
            name: our_server(options, name=name, reproducible=name == ON) for name in (OFF, ON)
        }
        figures: list[Figure] = []
        rows: list[tuple[Cell, ...]] = []
        with running_servers(specs) as servers:
            for load, (images, clients) in loads.items():
                arms = {
                    name: partial(self._seconds, server, images, clients)
                    for name, server in servers.items()
                }
                seconds = interleaved(arms, self.rounds)
                price = seconds[ON].over(seconds[OFF])
                what = f"time with DIT_REPRODUCIBLE=1 over without, {load}"
                figures.append(Figure(load, what, "times", price))
                row = f"{images} images, {clients} client{'s' * (clients > 1)}, s"
                rows.append((row, seconds[OFF], seconds[ON], price))
        header = ("", OFF, ON, f"{ON} / {OFF}")
        title = f"{self.model}: DIT_REPRODUCIBLE=1, DDIM {self.steps}, guided"
        return figures, Table(title, header, tuple(rows))

    def _seconds(self, server: Server, images: int, clients: int) -> float:
        return closed_loop(server.url, uniform(images, steps=self.steps), clients).seconds

    def _soak(self, options: Options) -> tuple[list[Figure], Table]:
        """Resident memory after every part of a long load."""
        rows: list[tuple[float, float | None]] = []
        with running_server(our_server(options)) as server:
            rows.append((0.0, server.memory_mib("VmRSS")))
            for seed, requests in enumerate(self.soak_requests):
                closed_loop(
                    server.url, uniform(requests, steps=SOAK_STEPS, seed=seed), SOAK_CLIENTS
                )
                rows.append((rows[-1][0] + requests, server.memory_mib("VmRSS")))
        table = Table(f"{self.model}: resident memory", ("requests", "MiB"), tuple(rows))
        return _growth(rows), table


@dataclass(frozen=True, slots=True)
class Started:
    """Seconds until ready; memory in MiB, None if unknown."""

    seconds: float
    ready_mib: float | None
    loaded_mib: float | None
    device_mib: float | None


def _growth(rows: Sequence[tuple[float, float | None]]) -> list[Figure]:
    before, after = rows[1][1], rows[-1][1]
    if before is None or after is None:
        return []
    return [Figure("grown_mib", "growth after the first part", "MiB", Spread((after - before,)))]
