"""Overhead: where a request's time goes."""

from __future__ import annotations

from dataclasses import dataclass

from bench.load.clients import LoadRun, closed_loop
from bench.load.servers import Server, running_server
from bench.load.workload import uniform
from bench.options import Options
from bench.peers.specs import our_server
from bench.report.figures import Cell, Measured, Spread, Table, percentile

WORK = ("denoise", "decode", "encode")
"""The stages of Server-Timing that are work; everything else is overhead."""

NOTE = (
    "The stages come from the Server-Timing header. The last row is the rest of the wall time seen by"
    " the client, including the client's own work."
)


@dataclass(frozen=True, slots=True)
class Overhead:
    """What HTTP, queue and metrics add to a request, and the time of each stage."""

    model: str
    steps: int
    requests: int
    rounds: int
    loaded_clients: int

    @classmethod
    def planned(cls, options: Options) -> Overhead:
        clients = options.pick(options.by_device(32, 64), 4)
        steps, requests, rounds = options.pick((50, 24, 5), (4, 6, 2))
        return cls(options.served_model, steps, requests, rounds, clients)

    def run(self, options: Options) -> Measured:
        with running_server(our_server(options)) as server:
            self._load(server, 4, 1)
            rounds = [self._load(server, self.requests, 1) for _ in range(self.rounds)]
            loaded = self._load(server, 2 * self.loaded_clients, self.loaded_clients)
        overheads = Spread(tuple(1e3 * percentile(overheads_s(run), 50) for run in rounds))
        alone = LoadRun(tuple(one for run in rounds for one in run.outcomes), 0.0)
        columns = {"one client": alone, f"{self.loaded_clients} clients": loaded}
        return Measured({"p50_ms": overheads}, (self._stages(columns),), (NOTE,))

    def _load(self, server: Server, requests: int, clients: int) -> LoadRun:
        return closed_loop(server.url, uniform(requests, steps=self.steps), clients)

    def _stages(self, columns: dict[str, LoadRun]) -> Table:
        header = ["stage"]
        rows: dict[str, list[Cell]] = {}
        for title, run in columns.items():
            header += [f"{title}, mean ms", "fraction"]
            means = mean_stages(run)
            for name, mean in means.items():
                rows.setdefault(name, [name]).extend((1e3 * mean, mean / sum(means.values())))
        title = f"{self.model}: stages of a request, DDIM {self.steps}, guided, PNG"
        return Table(title, tuple(header), tuple(tuple(row) for row in rows.values()))


def overheads_s(run: LoadRun) -> list[float]:
    """Each request's wall time minus its work."""
    return [one.seconds - sum(one.stages[stage] for stage in WORK) for one in run.outcomes]


def mean_stages(run: LoadRun) -> dict[str, float]:
    """Mean seconds of each stage, and of the rest of the wall time."""
    count = len(run.outcomes)
    named = {
        name: sum(one.stages[name] for one in run.outcomes) / count for name in ("queue", *WORK)
    }
    total = sum(one.seconds for one in run.outcomes) / count
    return named | {"HTTP and the rest": total - sum(named.values())}
