"""Drill: clients that vanish at every stage, do not read, or connect and say nothing."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
import pytest

from service.http.app import ENCODER_THREADS
from tests.drills.figures import Figure, write_figures
from tests.drills.services.growth import MOST_MIB, growth_mib
from tests.drills.services.served import Served, served, total
from tests.drills.stages import (
    CANCELLED,
    LARGE,
    LIVEZ,
    RUNNING,
    SHORT,
    STAGES,
    WAYS,
    anywhere,
    before_the_first_byte,
    between_requests,
    in_the_body,
    in_the_head,
)
from tests.support.raw import post
from tests.support.services import PATIENCE_S, wait_until

TICK_S = 0.1
MOST_TICKS = 2
"""Of a request whose client is gone: the one under way, and one that was chosen before it was noticed."""

TRIES = 3
"""Our own process may stand still between reading the count and leaving."""

ROUND_S = 20.0
MOST_THREADS = 40
"""AnyIO's, for routes that are plain functions; made when needed, and kept."""

IDLE = 500
FEWER = 200
SETTINGS = {
    "allowed_hosts": "*",
    "send_timeout_s": "1",
    "max_connections": str(FEWER),
}
DOCUMENT = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
KEEPALIVE_TIMER = "02"


@pytest.fixture(scope="module")
def service(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(
        tmp_path_factory.mktemp("log"),
        pipeline_folder,
        module="tests.drills.services.steady",
        DRILL_TICK_S=str(TICK_S),
        **SETTINGS,
    ) as running:
        assert httpx.get(f"{running.url}/openapi.json", trust_env=False).status_code == 200
        yield running


def ticks(service: Served) -> float:
    return service.metric("dit_tick_duration_seconds_count")


def cancelled(service: Served) -> float:
    return total(service.scrape(), "dit_requests_total", route="/generate", outcome="cancelled")


def leave(service: Served, stage: str, way: str) -> float:
    """Have a client leave at a stage; the ticks that its request still took."""
    with ExitStack() as others:
        if stage == "while it is queued":
            others.callback(service.connect(post(LARGE)).close)
            wait_until(lambda: service.metric("dit_requests_running") == 1)
        connection = STAGES[stage](service)
        before, done = cancelled(service), ticks(service)
        WAYS[way](connection)
        if stage in CANCELLED:
            wait_until(lambda: cancelled(service) > before)
        if stage == "while it is queued":
            wait_until(lambda: service.metric("dit_requests_waiting") == 0)
    wait_until(lambda: service.idle)
    return ticks(service) - done


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_left_of_a_client_that_leaves(service: Served, stage: str) -> None:
    descriptors, threads = service.descriptors, service.threads
    for way in WAYS:
        taken = (leave(service, stage, way) for _ in range(TRIES))
        assert any(each <= MOST_TICKS + 1 or stage not in RUNNING for each in taken), way
    wait_until(lambda: service.descriptors <= descriptors)
    assert service.threads <= threads + ENCODER_THREADS  # which are made when first needed
    service.check_unharmed()


def test_many_idle_connections_keep_nobody_out(service: Served) -> None:
    hold_idle(service)
    service.check_unharmed()


def hold_idle(service: Served) -> float:
    """Open many connections that say nothing, ask for a picture, and close them; its seconds."""
    descriptors = service.descriptors
    with ExitStack() as stack:
        for number in range(IDLE):
            stack.enter_context(service.connect(LIVEZ if number % 2 else b""))
        began = time.monotonic()
        ask(service)
        seconds = time.monotonic() - began
        assert service.descriptors - descriptors <= FEWER + 10
        assert watched(service) >= FEWER - 10
    wait_until(lambda: service.descriptors <= descriptors)
    return seconds


def ask(service: Served) -> None:
    """As somebody who waits for the answer."""
    answer = httpx.post(f"{service.url}/generate", json=SHORT, trust_env=False, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text


def watched(service: Served) -> int:
    """The service's connections whose other side the system asks for a sign of life, as Linux tells."""
    lines = Path(f"/proc/{service.process.pid}/net/tcp").read_text(encoding="utf-8").splitlines()
    local = f":{service.port:04X}"
    rows = [line.split() for line in lines[1:]]
    return sum(row[1].endswith(local) and row[5][:2] == KEEPALIVE_TIMER for row in rows)


def test_clients_that_do_not_read_are_cut(service: Served) -> None:
    withhold(service, count=10)
    service.check_unharmed()


def withhold(service: Served, count: int) -> None:
    """Have clients ask for a lot and read none of it, until the service has cut them."""
    descriptors = service.descriptors
    before = service.metric("dit_connections_cut_total", reason="slow reader")

    def cut() -> float:
        return service.metric("dit_connections_cut_total", reason="slow reader") - before

    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(stuck_reader(service))
        ask(service)
        wait_until(lambda: cut() == count)
    wait_until(lambda: service.descriptors <= descriptors)


def stuck_reader(service: Served) -> socket.socket:
    """A client that asks for more than the operating system takes, and reads none of it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", service.port))
    connection.sendall(DOCUMENT * 150)
    return connection


@dataclass(slots=True)
class Vanishing:
    """Threads of clients that leave, and one that stays."""

    service: Served
    ends: float
    left: list[str] = field(default_factory=list)
    stayed_s: list[float] = field(default_factory=list)

    def run(self, threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            leaving = [pool.submit(self._leave) for _ in range(threads)]
            while time.monotonic() < self.ends:
                began = time.monotonic()
                ask(self.service)
                self.stayed_s.append(time.monotonic() - began)
            for each in leaving:
                each.result()

    def _leave(self) -> None:
        chance = random.Random()
        while time.monotonic() < self.ends:
            reach = chance.choice(LEAVING)
            WAYS[chance.choice([*WAYS])](reach(self.service))
            self.left.append(reach.__name__)


LEAVING = (in_the_head, in_the_body, between_requests, before_the_first_byte, anywhere, anywhere)


@pytest.mark.drill
def test_clients_that_vanish_for_minutes(pipeline_folder: Path, tmp_path: Path) -> None:
    """On the bundled model; what a request still takes is counted on a device with slow ticks."""
    steady = {"module": "tests.drills.services.steady", "DRILL_TICK_S": "0.2"}
    with served(tmp_path, pipeline_folder, **steady, **SETTINGS) as slow:
        taken = [
            leave(slow, stage, way) for _ in range(10) for stage in sorted(RUNNING) for way in WAYS
        ]
        slow.check_unharmed()
    leaking = {"module": "tests.drills.services.leaking"}
    with served(tmp_path, "bundled", **leaking, **SETTINGS) as service:
        hold_idle(service)
        withhold(service, count=30)
        descriptors, threads = service.descriptors, service.threads
        rounds: list[Vanishing] = []

        def load() -> int:
            rounds.append(Vanishing(service, time.monotonic() + ROUND_S))
            rounds[-1].run(threads=12)
            wait_until(lambda: service.idle)
            return len(rounds[-1].left)

        grown = growth_mib(service, load, warm_up=8, rounds=5)
        service.check_unharmed()
        with_idle = [hold_idle(service) for _ in range(3)]
        withhold(service, count=30)
        service.check_unharmed()
        wait_until(lambda: service.descriptors <= descriptors)
        left = service.descriptors - descriptors, service.threads - threads
    gone = sum(len(each.left) for each in rounds)
    stayed_s = [seconds for each in rounds for seconds in each.stayed_s]
    write_figures(
        "vanishing",
        {
            "clients that left": f"{gone:,}, in {len(STAGES)} stages and {len(WAYS)} ways",
            "requests meanwhile of one that stays": f"{len(stayed_s):,}, all answered, p50"
            f" {median(stayed_s):.2f} s, longest {max(stayed_s):.2f} s",
            f"ticks after the client is gone, in {len(taken)} tries": Figure(
                f"median {median(taken):.0f}, most {max(taken):.0f}",
                f"at most {MOST_TICKS}, and one between reading the count and leaving",
            ),
            "rows, requests, work left by the gauges": Figure("0", "0"),
            "descriptors, threads left": Figure(f"{max(0, left[0])}, {max(0, left[1])}", "0, 0"),
            "memory, per thousand that left": Figure(
                f"{grown:.2f} MiB", f"less than {MOST_MIB:g} MiB"
            ),
            f"a picture next to {IDLE} idle connections, of {FEWER} allowed": f"{max(with_idle):.2f} s",
            "clients that do not read, and were cut after 1 s": Figure("30 of 30", "all"),
        },
    )
    assert max(taken) <= MOST_TICKS + 1
    assert grown < MOST_MIB
    assert left[0] <= 0
    assert left[1] <= MOST_THREADS
