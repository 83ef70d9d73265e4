"""Workbench: a worker that the test steps by hand, and a runner with injected faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from model.backends.network import Network
from model.runner.decoding import Decoding
from model.runner.runner import Flight, ModelRunner, OutOfMemory, TickTimes
from model.sampling.parameters import WHOLE_RANGE, Sampling
from model.sampling.trajectory import plan_trajectory
from service.engine.worker import Worker
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from service.scheduling.fair import FairScheduler
from service.scheduling.jobs import Job, Progress
from service.scheduling.pace import Pace
from service.scheduling.scheduler import Scheduler
from tests.support.networks import network_of
from tests.support.services import load_small_checkpoint

BAD_SEED = 666
TIMES = TickTimes(1e-4, 1e-3)


class BrittleRunner(ModelRunner):
    """Raises ``fault`` in ticks, or in decodes, that include an image with `BAD_SEED`."""

    fault: Exception | None = None
    at_step = 0
    in_decode = False
    most_rows = 1_000

    def tick(self, flights: Sequence[Flight]) -> int:
        rows = sum(flight.rows for flight in flights)
        if rows > self.most_rows:
            raise OutOfMemory(f"{rows} rows")
        self._check(flights, in_decode=False)
        return super().tick(flights)

    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        self._check(flights, in_decode=True)
        return super().start_decode(flights)

    def _check(self, flights: Sequence[Flight], *, in_decode: bool) -> None:
        for flight in flights:
            due = self.in_decode == in_decode and (in_decode or flight.step == self.at_step)
            if self.fault is not None and flight.trajectory.seed == BAD_SEED and due:
                raise self.fault


class Bench:
    """A worker that the test steps by hand."""

    def __init__(
        self,
        folder: Path,
        kind: type[BrittleRunner] = BrittleRunner,
        *,
        max_rows: int = 32,
        network: Network | None = None,
        scheduler: Scheduler | None = None,
        clock: Callable[[], float] = time.monotonic,
        beat: Callable[[], None] = lambda: None,
        times: TickTimes = TIMES,
    ) -> None:
        checkpoint = load_small_checkpoint(folder)
        network = network or network_of(checkpoint, max_rows=max_rows)
        self.runner = kind(checkpoint, network, max_rows=max_rows)
        self.queue = AdmissionQueue(100_000)
        self.metrics = Metrics()
        self.pace = Pace(times, max_rows)
        chosen = scheduler or FairScheduler(max_rows)
        self.worker = Worker(
            self.runner,
            self.queue,
            self.metrics,
            pace=self.pace,
            scheduler=chosen,
            clock=clock,
            beat=beat,
        )

    def submit(
        self,
        *seeds: int,
        steps: int = 4,
        timeout_s: float = 60.0,
        preview_every: int = 0,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Job:
        now = time.monotonic()
        trajectories = tuple(
            plan_trajectory(
                self.runner.checkpoint.schedule,
                Sampling(
                    class_label=seed % 5,
                    cfg_scale=2.0,
                    num_sampling_steps=steps,
                    sampler="ddpm",
                    seed=seed,
                    guidance_interval=WHOLE_RANGE,
                ),
            )
            for seed in seeds
        )
        job = Job(
            id=str(seeds),
            deadline=now + timeout_s,
            admitted=now,
            trajectories=trajectories,
            client=str(seeds),
            preview_every=preview_every,
            on_progress=on_progress,
        )
        self.queue.offer(job, self.pace)
        return job

    def finish(self) -> None:
        while self.worker.busy:
            self.worker.step()

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def pixels(job: Job) -> list[np.ndarray]:
    return job.future.result(timeout=0).pixels
