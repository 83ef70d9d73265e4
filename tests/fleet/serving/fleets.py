"""Fleets: Ray Serve on this machine's loopback, in this process's charge, and requests to it."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.load.processes import free_port
from model.runner.runner import ModelRunner
from service.fleet.config import FleetConfig
from service.load_model import load_runner
from service.settings import Settings
from tests.support.services import wait_until

START_S = 120.0
STARTS = 3
ANSWER_S = 120.0
JSON = {"Content-Type": "application/json"}
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, when it was asked for and how long it took."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """An application that is served."""

    port: int

    def ask(
        self,
        path: str,
        body: Mapping[str, object] | bytes | None = None,
        headers: Mapping[str, str] = JSON,
    ) -> Answer:
        """A whole exchange on a connection of its own.

        Raises:
            OSError, http.client.HTTPException: there was no answer, or only a part of one.
        """
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        began = time.monotonic()
        try:
            connection.request("GET" if body is None else "POST", path, content, dict(headers))
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read(), time.monotonic() - began)
        finally:
            connection.close()

    def metrics(self, name: str) -> dict[str, float]:
        """By replica, the sum of a metric's samples."""
        values: dict[str, float] = {}
        for line in self.ask("/metrics").content.decode().splitlines():
            if line.startswith(name + "{") and 'replica="' in line:
                replica = line.split('replica="')[1].split('"')[0]
                values[replica] = values.get(replica, 0.0) + float(line.rsplit(" ", 1)[1])
        return values


@dataclass(slots=True)
class Load:
    """Clients that ask again and again, each on its own connection; every answer is kept."""

    fleet: Fleet
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def running(
        self, clients: int, body_of: Callable[[int], Mapping[str, object]]
    ) -> Iterator[None]:
        """During the block; when it ends, what is under way is finished."""
        ended, numbers, lock = threading.Event(), iter(range(1_000_000)), threading.Lock()

        def work() -> None:
            while not ended.is_set():
                with lock:
                    number = next(numbers)
                try:
                    answer = self.fleet.ask("/generate", body_of(number))
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(f"request {number}: {error!r}")
                else:
                    self.answers.append(answer)

        threads = [threading.Thread(target=work) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    @property
    def lost(self) -> list[str]:
        """What was not answered with a picture."""
        refused = [
            f"{each.status}: {each.content[:200]!r}" for each in self.answers if each.status != 200
        ]
        return self.failures + refused


def ray_environment() -> dict[str, str]:
    """Variables of a Ray with a new token."""
    return {
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def ray_cluster(folder: Path) -> Iterator[int]:
    """Ray and Serve on the loopback; yields the port that Serve's HTTP proxy listens on.

    Ray reads some of these variables when it is imported.
    """
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ray_environment().items():
            patch.setenv(name, value)
        for name in [name for name in os.environ if name.startswith("DIT_")]:
            patch.delenv(name)
        import ray
        from ray import serve

        _start_ray(folder)
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        try:
            yield port
        finally:
            serve.shutdown()
            ray.shutdown()


def _start_ray(folder: Path) -> None:
    """Ray gives its own processes 30 s, which on a busy machine is not always enough."""
    import ray

    for tries_left in reversed(range(STARTS)):
        try:
            ray.init(
                _node_ip_address="127.0.0.1",
                include_dashboard=False,
                num_cpus=8,
                object_store_memory=100_000_000,
                logging_level="error",
                log_to_driver=False,
                _temp_dir=str(folder),
            )
        except Exception:
            ray.shutdown()
            if not tries_left:
                raise
        else:
            return


@contextmanager
def deployed(
    port: int,
    models: Sequence[Mapping[str, object]],
    load: Callable[[Settings], ModelRunner] = load_runner,
    **config: object,
) -> Iterator[Fleet]:
    """An application of these models, until the block ends."""
    from ray import serve

    deploy(models, load, **config)
    try:
        fleet = Fleet(port)
        wait_until(lambda: fleet.ask("/readyz").status == 200, START_S)
        yield fleet
    finally:
        serve.delete("dit")


def deploy(
    models: Sequence[Mapping[str, object]],
    load: Callable[[Settings], ModelRunner] = load_runner,
    **config: object,
) -> None:
    """Deploy, or change what is deployed; wait until it runs."""
    from ray import serve

    from service.ray_app import application

    own = {"num_cpus": 0.1}
    fleet = {"models": [{**own, **model} for model in models], "front": {"num_cpus": 0.1}} | config
    serve.run(application(FleetConfig.model_validate(fleet), load), name="dit", route_prefix="/")


def replicas_of(model: str) -> dict[str, int]:
    """By replica, its process."""
    from ray import serve

    status = serve.context._get_global_client().get_serve_details()
    details = status["applications"]["dit"]["deployments"][model]["replicas"]
    running = [each for each in details if each["state"] == "RUNNING"]
    return {each["replica_id"]: each["pid"] for each in running}
