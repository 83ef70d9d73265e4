"""An engine that hangs or dies: every request is answered, and the process exits."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
import torch

from model.runner.runner import ModelRunner
from service.engine.engine import State
from service.engine.watchdog import EngineHung, Patience
from service.errors import ServiceError
from service.launch import exit_code
from tests.support.dying_service import dying_runner
from tests.support.faulty import BAD_LABEL, FaultyNetwork, FaultyVae, Gate, with_faulty_vae
from tests.support.jobs import due_in
from tests.support.networks import network_of
from tests.support.processes import PROCESS_S, answers, free_port, process
from tests.support.requests import PICTURE, generate, read_events
from tests.support.services import (
    PATIENCE_S,
    Running,
    load_small_checkpoint,
    running_service,
    wait_until,
)

STREAM = {"Accept": "text/event-stream"}
ROW_STEPS = 2 * 2
"""Of a `PICTURE`: it is guided, and has two steps."""

BAD = PICTURE | {"class_label": BAD_LABEL}


@contextmanager
def stuck_service(
    folder: Path, patience: Patience, *, in_decode: bool = False
) -> Iterator[tuple[Running, Gate]]:
    """A service whose engine hangs at an image of `BAD_LABEL` until the gate is opened."""
    gate = Gate()

    def hang() -> BaseException:
        gate()
        return torch.AcceleratorError("the device is gone")

    def load() -> ModelRunner:
        checkpoint = load_small_checkpoint(folder)
        if not in_decode:
            network = FaultyNetwork(network_of(checkpoint), first=gate)
            return ModelRunner(checkpoint, network, max_rows=8)
        faulty = with_faulty_vae(checkpoint, hang)
        assert isinstance(faulty.vae, FaultyVae)
        return ModelRunner(faulty, FaultyNetwork(network_of(faulty), fill=1e9), max_rows=8)

    with running_service(load, patience=patience) as running:
        try:
            yield running, gate
        finally:
            gate.open()


def status_in_events(running: Running, body: Mapping[str, object]) -> object:
    """The status of the error that an event stream ends with, or with which it was refused."""
    with running.client.stream("POST", "/generate", json=body, headers=STREAM) as answer:
        if answer.status_code != HTTPStatus.OK:
            return answer.status_code
        *_, last = read_events(answer.iter_lines())
    assert last.name == "error"
    return last.data["status"]


@dataclass(frozen=True)
class Lenient(Patience):
    """Waits for ever, until it is over."""

    hung_s: float = 0.5
    over: threading.Event = field(default_factory=threading.Event)

    def hung_after(self, longest_s: float) -> float:
        return Patience.hung_after(self, 0.0) if self.over.is_set() else math.inf


@dataclass(frozen=True)
class Steady(Patience):
    """Does not grow where the machine is slow."""

    def stale_after(self, longest_s: float) -> float:
        return 1.2


@pytest.mark.parametrize("in_decode", [False, True])
def test_a_hung_engine_ends_the_service(pipeline_folder: Path, in_decode: bool) -> None:
    patience = Lenient()
    with (
        stuck_service(pipeline_folder, patience, in_decode=in_decode) as (running, gate),
        ThreadPoolExecutor() as pool,
    ):
        url = running.url
        culprit = pool.submit(generate, running, BAD)
        assert gate.reached.wait(PATIENCE_S)
        before = running.queue_row_steps
        waiting = pool.submit(generate, running, PICTURE)
        streaming = pool.submit(status_in_events, running, PICTURE)
        wait_until(lambda: running.queue_row_steps == before + 2 * ROW_STEPS)
        patience.over.set()
        assert culprit.result().status_code == waiting.result().status_code == 503
        assert "does not respond" in waiting.result().json()["detail"]
        assert streaming.result() == 503
        wait_until(lambda: not answers(f"{url}/livez", 200))
        assert not running.engine.ready
        assert running.metric("dit_ready") == 0
        assert isinstance(running.engine.failure, EngineHung)
        assert exit_code(running.engine) == 1
        with pytest.raises(ServiceError):
            running.engine.submit(due_in(60))
        assert running.engine.alive
        gate.open()  # it wakes up after every request was answered
        running.engine.join(PATIENCE_S)
        assert not running.engine.alive
        assert running.engine.state is State.FAILED
        assert isinstance(running.engine.failure, EngineHung)


def test_a_stuck_engine_is_not_ready_until_it_recovers(pipeline_folder: Path) -> None:
    with (
        stuck_service(pipeline_folder, Steady()) as (running, gate),
        ThreadPoolExecutor() as pool,
    ):
        answer = pool.submit(generate, running, BAD)
        assert gate.reached.wait(PATIENCE_S)
        wait_until(lambda: running.client.get("/readyz").status_code == 503)
        assert "stuck" in running.client.get("/readyz").json()["detail"]
        assert "\ndit_ready 0.0\n" in running.client.get("/metrics").text
        gate.open()
        assert answer.result().status_code == 200
        wait_until(lambda: running.client.get("/readyz").status_code == 200)
        wait_until(lambda: running.metric("dit_ready") == 1)


def test_deadlines_hold_while_the_engine_is_stuck(pipeline_folder: Path) -> None:
    with (
        stuck_service(pipeline_folder, Patience(late_s=0.2)) as (running, gate),
        ThreadPoolExecutor() as pool,
    ):
        culprit = pool.submit(generate, running, BAD)
        assert gate.reached.wait(PATIENCE_S)
        hasty = PICTURE | {"timeout_s": 1.2}
        plain = pool.submit(generate, running, hasty)
        streaming = pool.submit(status_in_events, running, hasty)
        assert plain.result().status_code == streaming.result() == 504
        labels = {"route": "/generate", "outcome": "timeout"}
        wait_until(lambda: running.metric("dit_requests_total", **labels) == 2)
        gate.open()
        assert culprit.result().status_code == 200
        assert generate(running, PICTURE).status_code == 200
        wait_until(lambda: running.queue_row_steps == 0)


@pytest.mark.parametrize("way", ["device lost", "thread killed"])
def test_a_dead_engine_answers_every_request(pipeline_folder: Path, way: str) -> None:
    with (
        running_service(lambda: dying_runner(pipeline_folder, way)) as running,
        ThreadPoolExecutor() as pool,
    ):
        long = PICTURE | {"num_sampling_steps": 1000, "num_images": 8}
        plain = pool.submit(generate, running, long)
        streaming = pool.submit(status_in_events, running, long)
        wait_until(lambda: running.queue_row_steps > 2 * 8 * 1000)  # both are in
        assert generate(running, BAD).status_code == 503
        assert plain.result().status_code == streaming.result() == 503
        running.engine.join(PATIENCE_S)
        assert not running.engine.ready
        assert exit_code(running.engine) == 1


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("device lost", "CUDA error: unspecified"),
        pytest.param("thread killed", "SystemExit: enough", marks=pytest.mark.slow),
        pytest.param("hung", "no sign of life for", marks=pytest.mark.slow),
    ],
)
def test_the_process_exits_with_1_when_its_engine_fails(
    pipeline_folder: Path, way: str, expected: str
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        process(
            str(pipeline_folder), way, module="tests.support.dying_service", DIT_PORT=str(port)
        ) as service,
        httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client,
    ):
        wait_until(lambda: answers(f"{url}/readyz", 200), PROCESS_S)
        long = PICTURE | {"num_sampling_steps": 1000}
        with client.stream("POST", "/generate", json=long, headers=STREAM) as answer:
            events = read_events(answer.iter_lines())
            assert next(events).name == "progress"
            assert client.post("/generate", json=BAD).status_code == 503
            *_, last = events
        assert (last.name, last.data["status"]) == ("error", 503)
        assert service.wait(PROCESS_S) == 1
        assert service.stderr is not None
        lines = [json.loads(line) for line in service.stderr.read().splitlines()]
    (line,) = [line for line in lines if line["level"] == "error"]
    assert expected in line.get("reason", "") + line.get("exception", "")
