"""Watch: a service and its leaky twin under the same load, sampled, judged and stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.drills.services.started import Started, started
from tests.drills.services.trimming import trim
from tests.drills.soak.judge import Trend, Verdict
from tests.drills.soak.run import Load, Tally, sample_until
from tests.drills.soak.sampling import Sample, per_thousand
from tests.support.processes import PROCESS_S
from tests.support.services import wait_until

SERVICE, TWIN = "tests.drills.services.leaking", "tests.drills.soak.leaky"
"""Both give freed memory back before each sample; the first leaks nothing unless a request says so."""

MEASURES = {
    "memory": lambda each: each.anonymous_kib,
    "threads": lambda each: each.threads,
    "descriptors": lambda each: each.descriptors,
}
NEARBY = {"memory": 12, "threads": 0, "descriptors": 0}
"""Samples before and after one, of which the least counts."""

ALLOWED = {"memory": 1024.0, "threads": 5.0, "descriptors": 5.0}
"""Growth in a thousand requests that still counts as flat; of memory in KiB."""


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """A process under load."""

    service: Started
    load: Load
    samples: list[Sample] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Course:
    """What came of one process: its visits, trends, and how it ended."""

    tally: Tally
    samples: Sequence[Sample]
    trends: dict[str, Trend]
    counted_ok: float
    counted_cancelled: float
    errors: list[str]
    exit_code: int

    def verdict(self, measure: str) -> Verdict:
        return self.trends[measure].verdict(ALLOWED[measure])


def soak(
    seconds: float,
    folder: Path,
    *,
    model: str = "bundled",
    pause_s: float = 0.5,
    every_s: float = 5.0,
) -> tuple[Course, Course]:
    """Load the service and its leaky twin for so long; what came of each.

    Samples are written to ``folder`` as they come, in soak.jsonl.

    Raises:
        OSError: a process ended meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        both: dict[str, Watched] = {}
        for name, module in (("service", SERVICE), ("twin", TWIN)):
            log = folder / f"soak-{name}.log"
            log.unlink(missing_ok=True)
            service = stack.enter_context(started(module, log=log, settings={"DIT_MODEL": model}))
            both[name] = Watched(service, Load(service.host, pause_s=pause_s, seed=len(both)))
        record = stack.enter_context((folder / "soak.jsonl").open("w", encoding="utf-8"))

        def keep(name: str, sample: Sample) -> None:
            both[name].samples.append(sample)
            record.write(json.dumps({"process": name, **asdict(sample)}) + "\n")
            record.flush()

        def settle(name: str) -> None:
            trim(both[name].service.url)

        for each in both.values():
            each.load.tick_all()
            each.load.visit_all()
            each.load.start()
        sources = {name: (each.service.process.pid, each.load.tally) for name, each in both.items()}
        sample_until(time.monotonic() + seconds, every_s, sources, keep, settle)
        for each in both.values():
            each.load.end()
        return _course(both["service"]), _course(both["twin"])


def trends_of(samples: Sequence[Sample]) -> dict[str, Trend]:
    """By measure."""
    return {
        name: per_thousand(samples, value, nearby=NEARBY[name]) for name, value in MEASURES.items()
    }


def _course(watched: Watched) -> Course:
    service = watched.service
    wait_until(lambda: service.idle, PROCESS_S)
    ok, cancelled = (
        service.metric(f'dit_requests_total{{outcome="{outcome}",route="/generate"}}')
        for outcome in ("ok", "cancelled")
    )
    exit_code, _ = service.end()
    trends = trends_of(watched.samples)
    return Course(
        tally=watched.load.tally,
        samples=watched.samples,
        trends=trends,
        counted_ok=ok,
        counted_cancelled=cancelled,
        errors=service.errors(),
        exit_code=exit_code,
    )
