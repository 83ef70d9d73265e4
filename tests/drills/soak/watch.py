"""Watch: a service and its leaky twin under the same load, sampled, judged and stopped."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.load.processes import free_port, start_module, stop, wait_until_ready
from tests.drills.soak.judge import Trend, Verdict
from tests.drills.soak.run import Load, Tally, sample_until
from tests.drills.soak.sampling import Sample, per_thousand
from tests.support.services import wait_until

SERVICE, CONTROL = "service", "tests.drills.soak.leaky"
GAUGES = ("dit_requests_running", "dit_requests_waiting", "dit_row_steps_waiting")
MEASURES = {
    "memory": lambda each: each.anonymous_kib,
    "threads": lambda each: each.threads,
    "descriptors": lambda each: each.descriptors,
}
ALLOWED = {"memory": 256.0, "threads": 1.0, "descriptors": 1.0}
"""Growth in a thousand requests that still counts as flat; of memory in KiB."""


@dataclass(slots=True, eq=False)
class Watched:
    """A process under load."""

    module: str
    process: subprocess.Popen[str]
    host: str
    log: Path
    load: Load
    samples: list[Sample]

    def metrics(self) -> str:
        connection = http.client.HTTPConnection(self.host, timeout=30.0)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def metric(self, line: str) -> float:
        """The value of a sample, given as its line begins; 0 if there is none."""
        found = re.search(rf"^{re.escape(line)} (\S+)$", self.metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    @property
    def idle(self) -> bool:
        return all(self.metric(gauge) == 0 for gauge in GAUGES)


@dataclass(frozen=True, slots=True)
class Course:
    """What came of one process: its visits, trends, and how it ended."""

    tally: Tally
    samples: Sequence[Sample]
    trends: dict[str, Trend]
    counted_ok: float
    errors: list[str]
    exit_code: int

    def verdict(self, measure: str) -> Verdict:
        return self.trends[measure].verdict(ALLOWED[measure])


@contextmanager
def watched(module: str, folder: Path, *, model: str, pause_s: float) -> Iterator[Watched]:
    """A service in one thread, ready; killed at the end of the block if it still runs."""
    port = free_port()
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DIT_")}
    settings = {"DIT_MODEL": model, "DIT_PORT": str(port), "DIT_LOG_FORMAT": "json"}
    path = folder / f"soak-{module.rpartition('.')[2]}.log"
    with path.open("wb") as log:
        process = start_module(
            module,
            environment=clean | settings | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
            stderr=log,
        )
        try:
            wait_until_ready(f"http://127.0.0.1:{port}/readyz", process)
            host = f"127.0.0.1:{port}"
            load = Load(host, pause_s=pause_s, seed=port)
            yield Watched(module, process, host, path, load, [])
        finally:
            stop(process)


def soak(
    seconds: float,
    folder: Path,
    *,
    model: str = "bundled",
    pause_s: float = 1.0,
    every_s: float = 5.0,
) -> tuple[Course, Course]:
    """Load the service and its leaky twin for so long; what came of each.

    Samples are written to ``folder`` as they come, in soak.jsonl.

    Raises:
        OSError: a process ended meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        watched(SERVICE, folder, model=model, pause_s=pause_s) as service,
        watched(CONTROL, folder, model=model, pause_s=pause_s) as control,
        (folder / "soak.jsonl").open("w", encoding="utf-8") as record,
    ):
        both = {each.module: each for each in (service, control)}

        def keep(name: str, sample: Sample) -> None:
            both[name].samples.append(sample)
            record.write(json.dumps({"process": name, **asdict(sample)}) + "\n")
            record.flush()

        for each in both.values():
            each.load.visit_all()
            each.load.start()
        sources = {name: (each.process.pid, each.load.tally) for name, each in both.items()}
        sample_until(time.monotonic() + seconds, every_s, sources, keep)
        for each in both.values():
            each.load.end()
        return _course(service), _course(control)


def _course(watched: Watched) -> Course:
    wait_until(lambda: watched.idle)
    counted_ok = watched.metric('dit_requests_total{outcome="ok",route="/generate"}')
    watched.process.send_signal(signal.SIGTERM)
    exit_code = watched.process.wait(60.0)
    lines = watched.log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if '"level": "error"' in line or "Traceback" in line]
    trends = {name: per_thousand(watched.samples, value) for name, value in MEASURES.items()}
    return Course(watched.load.tally, watched.samples, trends, counted_ok, errors, exit_code)
