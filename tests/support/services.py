"""A real service in this process: uvicorn on a free port, the engine in its thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import torch

from model.runner.build import build_runner
from model.runner.runner import Flight, ModelRunner
from model.weights.checkpoint import Checkpoint, load_checkpoint
from service.engine.engine import Engine
from service.engine.watchdog import PATIENCE, Patience
from service.http.app import create_app
from service.http.client_address import Network
from service.http.connections.limits import ConnectionLimits
from service.http.connections.record import ConnectionRecord
from service.http.keys.key_ring import KeyRing
from service.http.metrics_port.app import create_metrics_app
from service.http.metrics_port.listener import MetricsPort
from service.http.server import Server
from service.images.limits import RequestLimits
from service.images.signing.signer import Signer
from service.listening import open_sockets, url_of
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from service.tracing.spans import Tracing
from tests.support.networks import network_of

PATIENCE_S = 30.0
"""How long a test waits for what another thread brings about."""

LIMITS = RequestLimits(
    max_images=16,
    timeout_s=300.0,
    cfg_scale=1.5,
    quality="balanced",
    num_sampling_steps=5,
    sampler="ddim",
    reproducible=False,
)


@dataclass(frozen=True, slots=True)
class Running:
    """A service that listens, and what is behind it."""

    url: str
    client: httpx.Client
    engine: Engine
    queue: AdmissionQueue
    metrics: Metrics
    server: Server
    metrics_url: str = ""

    @property
    def queue_row_steps(self) -> int:
        """Work that is in, waiting or running."""
        return self.queue.row_steps

    def metric(self, name: str, **labels: str) -> float:
        """A sample's present value, 0 where there is none yet."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def load_small_checkpoint(folder: Path) -> Checkpoint:
    return load_checkpoint(str(folder), device=torch.device("cpu"), dtype=torch.float32)


def load_small_runner(
    folder: Path, *, max_rows: int = 32, reproducible: bool = False
) -> ModelRunner:
    checkpoint = load_small_checkpoint(folder)
    return build_runner(checkpoint, max_rows=max_rows, reproducible=reproducible)


def load_bundled_runner(*, max_rows: int = 32, reproducible: bool = False) -> ModelRunner:
    checkpoint = load_checkpoint("bundled", device=torch.device("cpu"), dtype=torch.float32)
    return build_runner(checkpoint, max_rows=max_rows, reproducible=reproducible)


class GatedRunner(ModelRunner):
    """A runner whose ticks wait for the test: `let` lets some through, `open` lets all."""

    def __init__(self, checkpoint: Checkpoint, *, max_rows: int = 32) -> None:
        network = network_of(checkpoint, max_rows=max_rows)
        super().__init__(checkpoint, network, max_rows=max_rows)
        self._tickets = threading.Semaphore(0)
        self._open = True  # during warm-up; call `close` afterwards
        self.seen: list[list[int]] = []  # the seeds of each tick's images

    def close(self) -> None:
        self._open = False
        self.seen.clear()

    def let(self, ticks: int) -> None:
        self._tickets.release(ticks)

    def open(self) -> None:
        self._open = True
        self._tickets.release()

    def tick(self, flights: Sequence[Flight]) -> int:
        if not self._open:
            assert self._tickets.acquire(timeout=PATIENCE_S), "the test never let this tick pass"
        self.seen.append([flight.trajectory.seed for flight in flights])
        return super().tick(flights)


@contextmanager
def running_service(
    load: Callable[[], ModelRunner],
    *,
    limits: RequestLimits = LIMITS,
    max_queue_row_steps: int = 100_000,
    max_body_bytes: int = 65_536,
    allowed_hosts: Sequence[str] = ("*",),
    cors_origins: Sequence[str] = (),
    drain_timeout_s: float = 5.0,
    patience: Patience = PATIENCE,
    wait_ready: bool = True,
    connection_limits: ConnectionLimits = ConnectionLimits(),  # noqa: B008 - it is frozen
    lame_duck_s: float = 0.0,
    trusted_proxies: Sequence[Network] = (),
    tracing: Tracing | None = None,
    signer: Signer | None = None,
    port: int = 0,
    metrics_hosts: Sequence[str] | None = None,
    keys: KeyRing | None = None,
    metrics_without_key: bool = False,
) -> Iterator[Running]:
    """Serve what ``load`` gives on the loopback, by default on a free port, until the block ends.

    With ``metrics_hosts``, /metrics has a port of its own, which answers to these names.
    """
    metrics = Metrics()
    queue = AdmissionQueue(max_queue_row_steps)
    engine = Engine(load, queue, metrics, drain_timeout_s=drain_timeout_s, patience=patience)
    app = create_app(
        engine,
        metrics,
        limits,
        max_body_bytes=max_body_bytes,
        allowed_hosts=allowed_hosts,
        cors_origins=cors_origins,
        trusted_proxies=trusted_proxies,
        tracing=tracing,
        signer=signer,
        serve_metrics=metrics_hosts is None,
        keys=keys,
        metrics_without_key=metrics_without_key,
    )
    own_port, metrics_url = None, ""
    if metrics_hosts is not None:
        sockets = open_sockets("127.0.0.1", 0)
        metrics_url = url_of(sockets)
        own_port = MetricsPort(
            create_metrics_app(metrics, allowed_hosts=metrics_hosts),
            sockets,
            limits=connection_limits,
            record=ConnectionRecord(metrics),
        )
    server = Server(
        app,
        engine,
        host="127.0.0.1",
        port=port,
        limits=connection_limits,
        lame_duck_s=lame_duck_s,
        metrics_port=own_port,
    )
    thread = threading.Thread(target=server.run, name="http", daemon=True)
    engine.start()
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
            running = Running(url, client, engine, queue, metrics, server, metrics_url)
            if wait_ready:
                wait_until(lambda: engine.ready)
            yield running
    finally:
        engine.drain()
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the server did not end"
        engine.join(PATIENCE_S)
        assert not engine.alive, "the engine's thread did not end"


def wait_until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Wait for something that another thread brings about."""
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.005)
