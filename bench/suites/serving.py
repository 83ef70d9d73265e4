"""Serving: clients that all ask for the same kind of image, each as soon as it has its last one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from bench.arms.agreement import agreement
from bench.arms.protocol import ArmSpec
from bench.arms.rounds import interleaved, ratio
from bench.arms.workers import running_worker, running_workers
from bench.load.clients import closed_loop
from bench.load.servers import Server, ServerSpec, running_server
from bench.load.workload import uniform
from bench.models.folders import BUNDLED, XL_256, model_folder
from bench.options import Options
from bench.report.figures import Figure, Measured, Spread, Table
from bench.report.limits import images_per_second
from bench.suites.arms import AGREED, CFG_SCALE, CLASSES, OURS_FP32, PEER_FP32, arms_of
from bench.suites.peers import lit_is_there, lit_server, naive_server, our_server
from bench.suites.tick import count_work

OURS = "ours"


@dataclass(frozen=True, slots=True)
class Serving:
    """``images`` is of a round, by kind of arm: long enough to tell, and no longer for slow ones."""

    model: str
    clients: int
    steps: int
    images: int
    lit_images: int
    naive_images: int
    lit_batches: tuple[int, ...]
    lit_waits: tuple[float, ...]
    dtypes: tuple[str, ...]
    matmul_size: int
    rounds: int

    @classmethod
    def planned(cls, options: Options) -> Serving:
        (model,) = options.models(options.by_device(BUNDLED, XL_256))
        clients = options.pick(options.by_device(32, 64), 4)
        return cls(
            model=model,
            clients=clients,
            steps=options.pick(50, 4),
            images=options.pick(4, 2) * clients,
            lit_images=options.pick(2, 1) * clients,
            naive_images=options.pick(8, 2),
            lit_batches=options.pick(options.by_device((8, 16, 32), (16, 32, 64)), (4,)),
            lit_waits=options.pick((0.01, 0.05, 0.2), (0.05,)),
            dtypes=options.by_device(("float32", "bfloat16"), ("bfloat16",)),
            matmul_size=options.by_device(2048, 8192),
            rounds=options.pick(3, 2),
        )

    def run(self, options: Options) -> Measured:
        notes = [NOTE]
        agreed = self._agreed(options)
        specs = {OURS: our_server(self.model, options)}
        specs |= {f"naive {d}": naive_server(self.model, options, d) for d in self.dtypes}
        tuning: tuple[Table, ...] = ()
        if lit_is_there(options):
            tuned, table = self._tune_lit(options)
            specs, tuning = specs | tuned, (table,)
        else:
            notes.append("LitServe is not installed here: its arms were left out.")
        rates = self._rates(specs, options)
        share = self._share_of_limit(rates[OURS], options)
        figures = (*self._figures(rates), Figure("limit_share", SHARE, "", share))
        return Measured(figures, (agreed, self._table(rates), *tuning), tuple(notes))

    def _agreed(self, options: Options) -> Table:
        """The servers' loops are those of the arms without HTTP, so these are compared."""
        specs = arms_of(self.model, options)
        kept = {name: specs[name] for name in (OURS_FP32, PEER_FP32)}
        with running_workers(kept, options) as workers:
            return agreement(workers, PEER_FP32, AGREED)

    def _tune_lit(self, options: Options) -> tuple[dict[str, ServerSpec], Table]:
        """For each dtype the best batch size, then the best wait at that size."""
        best: dict[str, ServerSpec] = {}
        rows: list[tuple[str, float, float, float]] = []
        for dtype in self.dtypes:
            tried: dict[tuple[int, float], float] = {}
            for batch in self.lit_batches:
                self._try(tried, dtype, (batch, self.lit_waits[len(self.lit_waits) // 2]), options)
            batch = max(tried, key=lambda each: tried[each])[0]
            for wait in self.lit_waits:
                self._try(tried, dtype, (batch, wait), options)
            rows += [(dtype, float(b), wait, speed) for (b, wait), speed in tried.items()]
            chosen = max(tried, key=lambda each: tried[each])
            best[f"LitServe {dtype}"] = lit_server(self.model, options, dtype, *chosen)
        header = ("dtype", "max_batch_size", "batch_timeout, s", "images/s")
        return best, Table("LitServe tuned: the fastest of these is its arm", header, tuple(rows))

    def _try(
        self,
        tried: dict[tuple[int, float], float],
        dtype: str,
        setting: tuple[int, float],
        options: Options,
    ) -> None:
        if setting not in tried:
            with running_server(lit_server(self.model, options, dtype, *setting), options) as one:
                tried[setting] = self._rate(one, self.clients)

    def _rates(self, specs: Mapping[str, ServerSpec], options: Options) -> dict[str, Spread]:
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(running_server(spec, options))
                for name, spec in specs.items()
            }
            return interleaved(
                {
                    name: partial(self._rate, one, self._images(name))
                    for name, one in servers.items()
                },
                self.rounds,
                warm_ups=0,
            )

    def _images(self, name: str) -> int:
        kinds = {"LitServe": self.lit_images, "naive": self.naive_images}
        return kinds.get(name.partition(" ")[0], self.images)

    def _rate(self, server: Server, images: int) -> float:
        """Images a second, from the first request to the last answer."""
        orders = uniform(images, classes=CLASSES, steps=self.steps, cfg_scale=CFG_SCALE)
        with server.awake():
            return images / closed_loop(server.url, orders, self.clients).seconds

    def _share_of_limit(self, rates: Spread, options: Options) -> Spread:
        """Of what the best matrix product would allow, in the dtype that our service picks."""
        folder = model_folder(self.model, options)
        work = count_work(folder, options)
        with running_worker("ours-dtype", ArmSpec("ours", folder, options.device), options) as ours:
            dtype = ours.ready.dtype
        spec = ArmSpec("matmul", "", options.device, dtype)
        with running_worker("serving-matmul", spec, options) as matmul:
            peak = matmul.peak((self.matmul_size,) * 3)
        limit = images_per_second(peak, work, self.steps)
        return Spread(tuple(rate / limit for rate in rates.rounds))

    def _table(self, rates: Mapping[str, Spread]) -> Table:
        ours = rates[OURS]
        rows = tuple((name, rate, ratio(ours, rate)) for name, rate in rates.items())
        title = f"{self.model}: {self.clients} clients, DDIM {self.steps}, guided, PNG over HTTP"
        return Table(title, ("server", "images/s", "ours over it"), rows)

    def _figures(self, rates: Mapping[str, Spread]) -> list[Figure]:
        ours = rates[OURS]
        figures = [Figure("ours", f"{self.model}: ours, loaded", "images/s", ours)]
        figures += [
            Figure(f"over {name}", f"ours over {name}", "times", ratio(ours, rate))
            for name, rate in rates.items()
            if name != OURS
        ]
        return figures


SHARE = "ours, loaded: share of the limit"
NOTE = (
    "Every server answers PNG; the peers' are from the same loop around diffusers' parts, in their"
    " own process, with all of the machine to themselves in their turn. Throughput is a round's"
    " images over the time from the first request to the last answer."
)
