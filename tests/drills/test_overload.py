"""Drill: ten times the load that the service can take, from clients that wait as they are told."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import httpx
import pytest

from tests.drills.figures import Figure, write_figures
from tests.drills.services.served import Samples, Served, served, total
from tests.drills.services.steady import ROW_STEPS_PER_S

ROUTE = {"route": "/generate"}
PATIENCE_S = 120.0
SPREAD = 0.25
"""A client waits up to this part longer than it is told, as ours do."""

PROBE_EVERY_S = 0.1
MOST_PROBE_S = 1.0
AT_ALL_S = 10.0
"""The same in the short form, which runs on any machine next to anything: no probe is held up by the load."""


@dataclass(slots=True)
class Crowd:
    """Clients with an address each. One is served, asks again at once, and is refused; it waits as told.

    Args:
        steps: of every request; guided, so each takes two rows.
    """

    url: str
    clients: int
    steps: int
    ends: float = 0.0
    took_s: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    tries: list[int] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    probes: dict[str, list[float]] = field(default_factory=lambda: {"/livez": [], "/readyz": []})

    def run(self, seconds: float) -> None:
        """Ask for so long; then every request that is out is waited for, which counts in ``took_s``."""
        asyncio.run(self._run(seconds))

    async def _run(self, seconds: float) -> None:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(self._client(i)) for i in range(self.clients)
            ]
            began = time.monotonic()
            self.ends = began + seconds
            # What delays the crowd delays no probe.
            probing = [asyncio.to_thread(self._probe, path) for path in self.probes]
            await asyncio.gather(*probing, *map(self._ask, range(self.clients), clients))
            self.took_s = time.monotonic() - began

    def _client(self, number: int) -> httpx.AsyncClient:
        own = f"127.1.{1 + number // 250}.{1 + number % 250}"
        transport = httpx.AsyncHTTPTransport(local_address=own, verify=False)
        return httpx.AsyncClient(
            base_url=self.url, transport=transport, timeout=PATIENCE_S, trust_env=False
        )

    async def _ask(self, number: int, client: httpx.AsyncClient) -> None:
        chance, tried = random.Random(number), 0
        body = {"class_label": 1, "seed": number, "num_sampling_steps": self.steps}
        await asyncio.sleep(chance.random())
        while time.monotonic() < self.ends:
            began = time.monotonic()
            answer = await client.post("/generate", json=body | {"cfg_scale": 2.0})
            self.statuses[answer.status_code] += 1
            if answer.status_code == 429:
                tried += 1
                told = int(answer.headers["Retry-After"])
                self.told.append(told)
                waits_s = told * (1 + SPREAD * chance.random())
                await asyncio.sleep(min(waits_s, self.ends - time.monotonic()))
            else:
                self.latencies.append(time.monotonic() - began)
                self.tries += [tried] if tried else []
                tried = 0

    def _probe(self, path: str) -> None:
        with httpx.Client(base_url=self.url, timeout=30.0, trust_env=False) as client:
            while time.monotonic() < self.ends:
                began = time.monotonic()
                answer = client.get(path)
                self.probes[path].append(time.monotonic() - began)
                assert answer.status_code == 200, answer.text
                time.sleep(PROBE_EVERY_S)

    @property
    def p99_s(self) -> float:
        return quantiles(self.latencies, n=100)[-1]

    def in_at_try(self, tries: int) -> float:
        """The share of those that were refused and let in after so many waits, or fewer."""
        return sum(each <= tries for each in self.tries) / len(self.tries)

    @property
    def slowest_probe_s(self) -> float:
        return max(max(each) for each in self.probes.values())


@dataclass(frozen=True, slots=True)
class Counted:
    """What the service says of a load, by two scrapes around it."""

    before: Samples
    after: Samples

    def added(self, name: str, **labels: str) -> int:
        return round(total(self.after, name, **labels) - total(self.before, name, **labels))

    def by_outcome(self) -> Counter[str]:
        outcomes = ("ok", "full", "timeout", "cancelled", "failed", "invalid", "unavailable")
        return Counter(
            {each: self.added("dit_requests_total", outcome=each, **ROUTE) for each in outcomes}
        )


def overload(service: Served, crowd: Crowd, seconds: float) -> Counted:
    """Run a crowd, and check what is promised but for the shares and times."""
    before = service.scrape()
    crowd.run(seconds)
    service.check_unharmed()
    counted = Counted(before, service.scrape())
    outcomes = counted.by_outcome()
    assert crowd.statuses.keys() == {200, 429}, crowd.statuses
    assert outcomes["ok"] == crowd.statuses[200]
    assert outcomes["full"] == crowd.statuses[429]
    assert outcomes.total() == crowd.statuses.total()
    assert counted.added("dit_images_total", outcome="ok") == crowd.statuses[200]
    return counted


def bound_s(crowd: Crowd, row_steps_limit: int) -> float:
    """Twice the time that a full queue takes at the speed of this load."""
    done = crowd.statuses[200] * 2 * crowd.steps
    return 2 * row_steps_limit * crowd.took_s / done


@pytest.mark.slow
def test_thrice_the_load_for_seconds(pipeline_folder: Path, tmp_path: Path) -> None:
    """Ten times takes longer: a turn is told in whole seconds, and a queue has to hold two of them."""
    limit, seconds = int(2 * ROW_STEPS_PER_S), 8.0
    with served(
        tmp_path,
        pipeline_folder,
        module="tests.drills.services.steady",
        max_queue_row_steps=str(limit),
    ) as service:
        crowd = Crowd(service.url, clients=60, steps=20)
        overload(service, crowd, seconds)
    assert crowd.slowest_probe_s < AT_ALL_S
    assert crowd.p99_s < 2 * bound_s(crowd, limit)
    assert len(crowd.tries) > 10
    assert crowd.in_at_try(2) > 0.5


@pytest.mark.drill
def test_ten_times_the_load_for_minutes(tmp_path: Path) -> None:
    """The bundled model; ten times as many clients as the queue has places."""
    limit, steps, seconds = 2_000, 25, 180.0
    clients = 10 * limit // (2 * steps)
    with served(tmp_path, "bundled", max_queue_row_steps=str(limit)) as service:
        crowd = Crowd(service.url, clients=clients, steps=steps)
        counted = overload(service, crowd, seconds)
    outcomes, bound = counted.by_outcome(), bound_s(crowd, limit)
    told = sorted(crowd.told)
    write_figures(
        "overload",
        {
            "clients, and places in the queue": f"{clients}, {limit // (2 * steps)}",
            "seconds of load": f"{seconds:g}",
            "sent, as the clients count": f"{crowd.statuses.total():,}",
            "accepted + refused, as the service counts": Figure(
                f"{outcomes['ok']:,} + {outcomes['full']:,}", "the same"
            ),
            "p50 and p99 of the accepted": Figure(
                f"{median(crowd.latencies):.1f} s, {crowd.p99_s:.1f} s",
                f"p99 under {bound:.1f} s, twice a full queue's time at the measured speed",
            ),
            "Retry-After: median, longest": f"{told[len(told) // 2]} s, {told[-1]} s",
            "let in at the first try after waiting": f"{crowd.in_at_try(1):.1%}",
            "at the first or second": Figure(f"{crowd.in_at_try(2):.1%}", "at least 90 %"),
            f"slowest of {sum(map(len, crowd.probes.values())):,} probes": Figure(
                f"{crowd.slowest_probe_s:.2f} s", f"under {MOST_PROBE_S:g} s"
            ),
            "gauges afterwards": Figure("0", "0"),
        },
    )
    assert crowd.slowest_probe_s < MOST_PROBE_S, crowd.slowest_probe_s
    assert crowd.p99_s < bound
    assert crowd.in_at_try(2) > 0.9
