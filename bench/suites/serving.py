"""Serving: throughput over HTTP under uniform load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from bench.arms.agreement import agreement
from bench.arms.specs import AGREED, OURS_FP32, PEER_FP32, arms_of
from bench.arms.workers import running_workers
from bench.load.clients import closed_loop
from bench.load.servers import Server, ServerSpec, running_server, running_servers
from bench.load.workload import uniform
from bench.options import Options
from bench.peers.specs import OURS, lit_installed, lit_server, naive_server, our_server
from bench.report.figures import Measured, Spread, Table
from bench.suites.limits import limit_of
from bench.suites.rounds import interleaved

NOTE = (
    "Every server answers with PNG. The peers run the same loop around diffusers' parts in their own"
    " process, and each server has the whole machine during its turn. Throughput is a round's images"
    " divided by the time from the first request to the last answer."
)


@dataclass(frozen=True, slots=True)
class Serving:
    """Clients that all request the same kind of image, each as soon as its last one arrived."""

    model: str
    clients: int
    steps: int
    images: int
    lit_images: int
    naive_images: int
    lit_batches: tuple[int, ...]
    lit_waits: tuple[float, ...]
    dtypes: tuple[str, ...]
    rounds: int

    @classmethod
    def planned(cls, options: Options) -> Serving:
        # Two rows each: more than a full tick of 128 rows on CUDA, so that ticks stay full while some
        # clients wait for the decoder or HTTP.
        clients = options.pick(options.by_device(32, 96), 4)
        return cls(
            model=options.served_model,
            clients=clients,
            steps=options.pick(50, 4),
            images=options.pick(4, 2) * clients,
            lit_images=options.pick(2, 1) * clients,
            naive_images=options.pick(8, 2),
            lit_batches=options.pick(options.by_device((8, 16, 32), (16, 32, 64)), (4,)),
            lit_waits=options.pick((0.01, 0.05, 0.2), (0.05,)),
            dtypes=options.by_device(("float32", "bfloat16"), ("bfloat16",)),
            rounds=options.pick(3, 2),
        )

    def run(self, options: Options) -> Measured:
        agreed, dtype = self._agreed(options)
        tables, notes = [agreed], [NOTE]
        specs = {OURS: our_server(options)}
        specs |= {f"naive {each}": naive_server(options, each) for each in self.dtypes}
        if lit_installed(options):
            tuned, table = self._tune_lit(options)
            specs |= tuned
            tables.append(table)
        else:
            notes.append("LitServe is not installed here, so its arms are missing.")
        rates = self._rates(specs)
        tables.insert(1, self._table(rates))
        share = limit_of(self.model, dtype, options).share(rates[OURS], self.steps)
        figures = {OURS: rates[OURS], "limit_share": share}
        figures |= {f"over {peer}": rates[OURS].over(rates[peer]) for peer in rates if peer != OURS}
        return Measured(figures, tuple(tables), tuple(notes))

    def _agreed(self, options: Options) -> tuple[Table, str]:
        """The servers run the same code as these arms. Also returns the dtype that ours chooses."""
        specs = arms_of(self.model, options)
        kept = {name: specs[name] for name in (OURS, OURS_FP32, PEER_FP32)}
        with running_workers(kept, options) as workers:
            return agreement(workers, PEER_FP32, AGREED), workers[OURS].ready.dtype

    def _tune_lit(self, options: Options) -> tuple[dict[str, ServerSpec], Table]:
        """For each dtype the best batch size, then the best wait at that size."""
        best: dict[str, ServerSpec] = {}
        rows: list[tuple[str, float, float, float]] = []
        middle = self.lit_waits[len(self.lit_waits) // 2]
        for dtype in self.dtypes:
            tried: dict[tuple[int, float], float] = {}
            for batch in self.lit_batches:
                tried[batch, middle] = self._try_lit(options, dtype, batch, middle)
            batch, _ = max(tried, key=lambda setting: tried[setting])
            for wait in self.lit_waits:
                if wait != middle:
                    tried[batch, wait] = self._try_lit(options, dtype, batch, wait)
            rows += [(dtype, float(b), wait, speed) for (b, wait), speed in tried.items()]
            fastest = max(tried, key=lambda setting: tried[setting])
            best[f"LitServe {dtype}"] = lit_server(options, dtype, *fastest)
        header = ("dtype", "max_batch_size", "batch_timeout, s", "images/s")
        return best, Table(
            "Tuning LitServe: the fastest setting is used above", header, tuple(rows)
        )

    def _try_lit(self, options: Options, dtype: str, batch: int, wait: float) -> float:
        with running_server(lit_server(options, dtype, batch, wait)) as server:
            return self._rate(server, self.clients)

    def _rates(self, specs: Mapping[str, ServerSpec]) -> dict[str, Spread]:
        kinds = {"LitServe": self.lit_images, "naive": self.naive_images}
        with running_servers(specs) as servers:
            arms = {
                name: partial(self._rate, server, kinds.get(name.split()[0], self.images))
                for name, server in servers.items()
            }
            return interleaved(arms, self.rounds, warm_ups=0)

    def _rate(self, server: Server, images: int) -> float:
        """Images/s, from the first request to the last answer."""
        with server.awake():
            run = closed_loop(server.url, uniform(images, steps=self.steps), self.clients)
        return images / run.seconds

    def _table(self, rates: Mapping[str, Spread]) -> Table:
        rows = tuple((name, rate, rates[OURS].over(rate)) for name, rate in rates.items())
        title = f"{self.model}: {self.clients} clients, DDIM {self.steps}, guided, PNG over HTTP"
        return Table(title, ("server", "images/s", "ours / its"), rows)
