"""Operation: what matters to whoever runs the service: start, memory, reproducible mode."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from bench.load.clients import closed_loop
from bench.load.metrics import read_metrics
from bench.load.servers import Server, running_server, running_servers
from bench.load.streams import watching
from bench.load.workload import uniform
from bench.options import Options
from bench.peers.specs import our_server
from bench.report.figures import Cell, Measured, Spread, Table
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
    """Start-up time, memory, and the price of DIT_REPRODUCIBLE=1 and of previews."""

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
        parts = [
            self._starts,
            self._reproducible,
            self._previews,
            *([self._soak] if self.soak_requests else []),
        ]
        figures: dict[str, Spread] = {}
        tables = tuple(part(options, figures) for part in parts)
        return Measured(figures, tables, (NOTE,))

    def _starts(self, options: Options, figures: dict[str, Spread]) -> Table:
        first, *others = [self._start(options) for _ in range(self.starts)]
        figures["warm_s"] = Spread(tuple(seconds for seconds, *_ in others))
        seconds, ready_mib, loaded_mib, device_mib = first
        rows: tuple[tuple[Cell, ...], ...] = (
            ("first start, s", seconds),
            ("later starts, s", figures["warm_s"]),
            ("peak resident memory when ready, MiB", ready_mib),
            (f"the same after {self.clients} concurrent images, MiB", loaded_mib),
            ("device memory reserved, MiB", device_mib),
        )
        return Table(f"{self.model}: process start to ready", ("", ""), rows)

    def _start(self, options: Options) -> tuple[float, float | None, float | None, float | None]:
        """Seconds until ready; MiB when ready, after a load, and on the device."""
        began = time.perf_counter()
        with running_server(our_server(options)) as server:
            seconds = time.perf_counter() - began
            ready_mib = server.memory_mib("VmHWM")
            closed_loop(server.url, uniform(self.clients, steps=self.start_steps), self.clients)
            reserved = read_metrics(server.url).get(("dit_gpu_memory_bytes", "reserved"))
            device_mib = None if reserved is None else reserved / 2**20
            return seconds, ready_mib, server.memory_mib("VmHWM"), device_mib

    def _reproducible(self, options: Options, figures: dict[str, Spread]) -> Table:
        """The time of the same requests with and without DIT_REPRODUCIBLE=1."""
        loads = {"loaded": (self.images, self.clients), "alone": (self.alone, 1)}
        specs = {
            name: our_server(options, name=name, reproducible=name == ON) for name in (OFF, ON)
        }
        rows: list[tuple[Cell, ...]] = []
        with running_servers(specs) as servers:
            for load, (images, clients) in loads.items():
                arms = {
                    name: partial(self._seconds, server, images, clients)
                    for name, server in servers.items()
                }
                seconds = interleaved(arms, self.rounds)
                figures[load] = seconds[ON].over(seconds[OFF])
                row = f"{images} images, {clients} client{'s' * (clients > 1)}, s"
                rows.append((row, seconds[OFF], seconds[ON], figures[load]))
        title = f"{self.model}: DIT_REPRODUCIBLE=1, DDIM {self.steps}, guided"
        return Table(title, ("", OFF, ON, f"{ON} / {OFF}"), tuple(rows))

    def _previews(self, options: Options, figures: dict[str, Spread]) -> Table:
        """The time of other requests next to one client that streams, with and without previews."""
        with running_server(our_server(options)) as server:
            arms = {
                name: partial(self._next_to_a_stream, server, every)
                for name, every in (("no previews", 0), ("a preview at every step", 1))
            }
            seconds = interleaved(arms, self.rounds)
        without, with_previews = seconds.values()
        figures["previews"] = with_previews.over(without)
        rows = ((f"{self.images} images", without, with_previews, figures["previews"]),)
        title = f"{self.model}: {self.clients} clients next to one that watches its image"
        return Table(title, ("", *(f"{name}, s" for name in seconds), "with / without"), rows)

    def _next_to_a_stream(self, server: Server, preview_every: int) -> float:
        with watching(server.url, steps=self.steps, preview_every=preview_every):
            return self._seconds(server, self.images, self.clients)

    def _seconds(self, server: Server, images: int, clients: int) -> float:
        return closed_loop(server.url, uniform(images, steps=self.steps), clients).seconds

    def _soak(self, options: Options, figures: dict[str, Spread]) -> Table:
        """Resident memory after every part of a long load."""
        rows: list[tuple[float, float | None]] = []
        with running_server(our_server(options)) as server:
            rows.append((0.0, server.memory_mib("VmRSS")))
            for seed, requests in enumerate(self.soak_requests):
                asks = uniform(requests, steps=SOAK_STEPS, seed=seed)
                closed_loop(server.url, asks, SOAK_CLIENTS)
                rows.append((rows[-1][0] + requests, server.memory_mib("VmRSS")))
        before, after = rows[1][1], rows[-1][1]
        if before is not None and after is not None:
            figures["grown_mib"] = Spread((after - before,))  # after the first part
        return Table(f"{self.model}: resident memory", ("requests", "MiB"), tuple(rows))
