"""Lifecycle: starting, draining, stopping and failing, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from model.runner.runner import DeviceLost, Flight, ModelRunner
from service.engine.engine import State
from service.engine.watchdog import Patience
from service.http.events import EventResponse
from service.launch import exit_code, serve
from service.settings import Settings, read_settings
from service.signals import stop_signals
from tests.support.networks import network_of
from tests.support.processes import PROCESS_S, answers, catches, free_port, process
from tests.support.raw import connect, post, read_all
from tests.support.requests import gated_service
from tests.support.services import (
    PATIENCE_S,
    GatedRunner,
    load_small_checkpoint,
    load_small_runner,
    running_service,
    wait_until,
)

ONE = {"class_label": 1, "seed": 1}


def test_requests_get_503_while_the_model_loads(pipeline_folder: Path) -> None:
    may_load = threading.Event()

    def load() -> ModelRunner:
        assert may_load.wait(PATIENCE_S)
        return load_small_runner(pipeline_folder)

    with running_service(load, wait_ready=False) as running:
        assert running.client.get("/livez").status_code == 200
        for answer in (running.client.get("/readyz"), running.client.post("/generate", json=ONE)):
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert "starting" in answer.json()["detail"]
        assert running.client.get("/metrics").status_code == 200
        assert running.metric("dit_ready") == 0
        may_load.set()
        wait_until(lambda: running.client.get("/readyz").status_code == 200)
        assert running.metric("dit_ready") == 1
        assert running.client.post("/generate", json=ONE).status_code == 200


def test_an_engine_stopped_during_startup_never_becomes_ready(pipeline_folder: Path) -> None:
    may_load = threading.Event()

    def load() -> ModelRunner:
        assert may_load.wait(PATIENCE_S)
        return load_small_runner(pipeline_folder)

    with running_service(load, wait_ready=False) as running:
        running.engine.drain()
        assert running.engine.state is State.STOPPED
        may_load.set()
        running.engine.join(PATIENCE_S)
        assert not running.engine.alive
        assert not running.engine.was_ready
        assert running.engine.state is State.STOPPED
        assert running.metric("dit_ready") == 0
        assert exit_code(running.engine) == 0


def test_draining_finishes_admitted_requests_and_refuses_new_ones(pipeline_folder: Path) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    with (
        running_service(lambda: runner, drain_timeout_s=600) as running,
        ThreadPoolExecutor() as pool,
    ):
        runner.close()
        answer = pool.submit(running.client.post, "/generate", json=ONE)
        wait_until(lambda: running.queue_row_steps > 0)
        running.engine.drain()
        assert running.client.get("/readyz").status_code == 503
        refused = running.client.post("/generate", json=ONE)
        assert refused.status_code == 503
        assert "stopping" in refused.json()["detail"]
        runner.open()
        assert answer.result().status_code == 200
        running.engine.join(PATIENCE_S)
        assert running.engine.state is State.STOPPED
        assert exit_code(running.engine) == 0


def test_a_drain_that_takes_too_long_answers_503(pipeline_folder: Path) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    with (
        running_service(lambda: runner, drain_timeout_s=0.1) as running,
        ThreadPoolExecutor() as pool,
    ):
        runner.close()
        long = ONE | {"num_sampling_steps": 1000}
        answer = pool.submit(running.client.post, "/generate", json=long)
        wait_until(lambda: running.queue_row_steps > 0)
        running.engine.drain()
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 0.1)
        runner.let(1)  # the tick under way; no other begins
        assert answer.result().status_code == 503
        assert "stopping" in answer.result().json()["detail"]
        running.engine.join(PATIENCE_S)
        assert running.metric("dit_images_total", outcome="cancelled") == 1
        assert running.queue_row_steps == 0
        assert exit_code(running.engine) == 0


class DyingRunner(ModelRunner):
    """Loses its device at the first tick after the warm-up."""

    warm = False

    def tick(self, flights: Sequence[Flight]) -> int:
        if self.warm:
            raise DeviceLost("CUDA error: an illegal memory access was encountered")
        return super().tick(flights)

    def decode(self, flights: Sequence[Flight]) -> list[object]:  # type: ignore[override]
        self.warm = len(flights) == self.max_rows  # the warm-up's last act
        return list(super().decode(flights))


def test_a_lost_device_answers_503_and_ends_the_engine_with_an_error(
    pipeline_folder: Path,
) -> None:
    checkpoint = load_small_checkpoint(pipeline_folder)
    runner = DyingRunner(checkpoint, network_of(checkpoint), max_rows=4)
    with running_service(lambda: runner) as running:
        assert running.client.post("/generate", json=ONE).status_code == 503
        running.engine.join(PATIENCE_S)
        assert not running.engine.ready
        assert running.metric("dit_ready") == 0
        assert running.metric("dit_images_total", outcome="cancelled") == 1
        assert running.metric("dit_requests_running") == 0
        assert running.queue_row_steps == 0
        assert exit_code(running.engine) == 1
        running.engine.drain()  # as a supervisor would, to stop the rest
        assert running.engine.state is State.FAILED
        assert exit_code(running.engine) == 1


def test_a_client_that_hangs_up_frees_its_rows_and_is_counted(pipeline_folder: Path) -> None:
    body = json.dumps(ONE | {"num_sampling_steps": 1000}).encode()
    with gated_service(pipeline_folder) as (running, runner):
        address = httpx.URL(running.url)
        head = f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((address.host, address.port or 0)) as connection:
            connection.sendall(head.encode() + body)
            wait_until(lambda: running.metric("dit_queue_wait_seconds_count") == 1)
        labels = {"route": "/generate", "outcome": "cancelled"}
        wait_until(lambda: running.metric("dit_requests_total", **labels) == 1)
        runner.let(1)  # the tick that was under way
        wait_until(lambda: running.metric("dit_images_total", outcome="cancelled") == 1)
        assert running.metric("dit_denoise_steps_total", kind="cancelled") == 2
        assert running.queue_row_steps == 0
        wait_until(lambda: running.metric("dit_requests_running") == 0)


def test_a_full_queue_answers_429_with_retry_after(pipeline_folder: Path) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    with (
        running_service(lambda: runner, max_queue_row_steps=100) as running,
        ThreadPoolExecutor() as pool,
    ):
        runner.close()
        first = pool.submit(running.client.post, "/generate", json=ONE | {"num_sampling_steps": 40})
        wait_until(lambda: running.queue_row_steps > 0)
        refused = running.client.post("/generate", json=ONE | {"num_sampling_steps": 40})
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.headers["Content-Type"] == "application/problem+json"
        runner.open()
        assert first.result().status_code == 200


def test_a_missed_and_an_impossible_deadline_answer_504(pipeline_folder: Path) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    with running_service(lambda: runner) as running, ThreadPoolExecutor() as pool:
        runner.close()
        hasty = ONE | {"num_sampling_steps": 5, "timeout_s": 0.5}
        late = pool.submit(running.client.post, "/generate", json=hasty)
        wait_until(lambda: running.queue_row_steps > 0)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 0.5)
        runner.let(1)  # the tick under way; no other begins
        assert late.result().status_code == 504
        impossible = ONE | {"num_sampling_steps": 1000, "timeout_s": 1e-4}
        assert running.client.post("/generate", json=impossible).status_code == 504
        runner.open()


def test_every_stop_signal_drains_and_a_second_interrupt_ends_at_once(
    pipeline_folder: Path,
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        with gated_service(pipeline_folder) as (running, runner), ThreadPoolExecutor() as pool:
            answer = pool.submit(running.client.post, "/generate", json=ONE)
            wait_until(lambda: running.queue_row_steps > 0)
            with running.server.capture_signals():
                assert signal.getsignal(number) == running.server.handle_exit
                signal.raise_signal(number)
                wait_until(lambda: running.engine.state is State.DRAINING)
                signal.raise_signal(number)
                assert running.server.force_exit == (number is signal.SIGINT)
            runner.open()
            if number is not signal.SIGINT:
                assert answer.result().status_code == 200


def test_the_start_raises_the_limit_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []

    def load(_: Settings) -> ModelRunner:
        raise ValueError("no model")

    monkeypatch.setattr("service.launch.raise_descriptor_limit", lambda: calls.append(None))
    assert serve(read_settings(["--port", "0"]), load) == 1
    assert calls == [None]


def test_signals_that_are_ignored_at_the_start_stay_so() -> None:
    assert set(stop_signals()) == {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
    }
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert signal.SIGHUP not in stop_signals()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_lame_duck_is_not_ready_but_answers(pipeline_folder: Path) -> None:
    def load() -> ModelRunner:
        return load_small_runner(pipeline_folder)

    with running_service(load, lame_duck_s=600) as running:
        running.server.handle_exit(signal.SIGTERM, None)
        wait_until(lambda: running.client.get("/readyz").status_code == 503)
        assert "about to stop" in running.client.get("/readyz").json()["detail"]
        assert running.metric("dit_ready") == 0
        assert running.client.get("/livez").status_code == 200
        assert running.client.post("/generate", json=ONE).status_code == 200
        assert running.engine.status == "about to stop"
        running.engine.drain()
        running.engine.join(PATIENCE_S)
        assert running.engine.state is State.STOPPED
        assert exit_code(running.engine) == 0


def test_a_lame_duck_sends_kept_connections_elsewhere(pipeline_folder: Path) -> None:
    """Or what comes on them after it would get 503."""

    def load() -> ModelRunner:
        return load_small_runner(pipeline_folder)

    with running_service(load, lame_duck_s=600) as running:
        first = running.client.get("/livez")
        assert "Connection" not in first.headers
        running.server.handle_exit(signal.SIGTERM, None)
        wait_until(lambda: running.client.get("/livez").headers.get("Connection") == "close")
        answer = running.client.post("/generate", json=ONE)
        assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
        running.engine.drain()


def test_connections_without_a_request_end_with_the_lame_duck(pipeline_folder: Path) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    with running_service(lambda: runner, lame_duck_s=0.05) as running:
        runner.close()
        kept, received = connect(running, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"), b""
        while b"alive" not in received:
            received += kept.recv(65_536)
        busy = connect(running, post(ONE))
        wait_until(lambda: running.queue_row_steps > 0)
        running.server.handle_exit(signal.SIGTERM, None)
        with kept, busy:
            assert received.endswith(b"}")
            assert read_all(kept) == b""  # though the engine has not ended
            wait_until(lambda: running.engine.state is State.DRAINING)
            runner.open()
            assert busy.recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(("lame_duck_s", "number"), [(0.05, signal.SIGTERM), (600, signal.SIGINT)])
def test_a_lame_duck_drains_in_the_end_and_an_interrupt_at_once(
    pipeline_folder: Path, lame_duck_s: float, number: signal.Signals
) -> None:
    def load() -> ModelRunner:
        return load_small_runner(pipeline_folder)

    with running_service(load, lame_duck_s=lame_duck_s) as running:
        running.server.handle_exit(number, None)
        running.engine.join(PATIENCE_S)
        assert running.engine.state is State.STOPPED


def test_a_stop_refuses_requests_that_have_not_arrived(pipeline_folder: Path) -> None:
    def load() -> ModelRunner:
        return load_small_runner(pipeline_folder)

    with running_service(load) as running:
        half = connect(running, post(ONE, "Expect: 100-continue")[:-1])
        assert half.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        head = connect(running, b"GET /livez HTTP/1.1\r\n")
    with half, head:
        answer = read_all(half)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"the service is stopping" in answer
        assert read_all(head) == b""
        labels = {"route": "/generate", "outcome": "unavailable"}
        assert running.metric("dit_requests_total", **labels) == 1


def test_a_stop_cuts_what_does_not_end_by_itself(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.server.CLOSE_CONNECTIONS_S", 0.1)
    begun = threading.Event()

    async def endless(*given: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    def load() -> ModelRunner:
        return load_small_runner(pipeline_folder)

    monkeypatch.setattr(EventResponse, "stream_response", endless)
    with running_service(load) as running, capture_logs() as logs:
        connection = connect(running, post(ONE, "Accept: text/event-stream"))
        assert begun.wait(PATIENCE_S)
    with connection:
        assert read_all(connection) == b""
    assert not any("exc_info" in each for each in logs)


def test_sigterm_lets_a_running_request_finish_and_exits_with_0(pipeline_folder: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        process(
            DIT_MODEL=str(pipeline_folder), DIT_PORT=str(port), DIT_DRAIN_TIMEOUT_S="600"
        ) as service,
        ThreadPoolExecutor() as pool,
    ):
        wait_until(lambda: answers(f"{url}/readyz", 200), PROCESS_S)
        long = ONE | {"num_sampling_steps": 1000, "sampler": "ddpm"}
        with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
            request = pool.submit(client.post, "/generate", json=long)
            wait_until(lambda: "dit_requests_running 1.0" in client.get("/metrics").text)
            service.send_signal(signal.SIGTERM)
            wait_until(lambda: answers(f"{url}/readyz", 503))
            service.send_signal(signal.SIGTERM)  # make adds its own to that of the process group
            assert request.result().status_code == 200
        assert service.wait(PROCESS_S) == 0
        assert service.stderr is not None
        assert "Traceback" not in service.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_before_anything_listens_exits_with_0(
    pipeline_folder: Path, number: signal.Signals
) -> None:
    with process(DIT_MODEL=str(pipeline_folder), DIT_PORT="0") as service:
        wait_until(lambda: catches(service, number), PROCESS_S)
        service.send_signal(number)
        assert service.wait(PROCESS_S) == 0


def test_stop_signals_that_the_parent_has_blocked_still_stop(pipeline_folder: Path) -> None:
    """A process inherits the mask of the thread that starts it; job runners block signals there."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        with process(DIT_MODEL=str(pipeline_folder), DIT_PORT="0") as service:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            wait_until(lambda: catches(service, signal.SIGTERM), PROCESS_S)
            service.send_signal(signal.SIGTERM)
            assert service.wait(PROCESS_S) == 0
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_tick_that_never_ends_blocks_neither_its_request_nor_a_stop(
    pipeline_folder: Path,
) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    patience = Patience(late_s=0.2)
    with running_service(lambda: runner, drain_timeout_s=0.1, patience=patience) as running:
        runner.close()
        hasty = ONE | {"timeout_s": 0.1}
        assert running.client.post("/generate", json=hasty).status_code == 504

        running.engine.drain()
        wait_until(lambda: not answers(f"{running.url}/livez", 200))
        assert running.engine.alive
        assert exit_code(running.engine) == 0
        runner.open()


def test_repeated_drains_do_not_extend_the_drain_timeout(pipeline_folder: Path) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    patience = Patience(late_s=0.1)
    with (
        running_service(lambda: runner, drain_timeout_s=1.0, patience=patience) as running,
        ThreadPoolExecutor() as pool,
    ):
        runner.close()
        answer = pool.submit(running.client.post, "/generate", json=ONE)
        wait_until(lambda: running.queue_row_steps > 0)

        def answered() -> bool:
            running.engine.drain()
            return answer.done()

        try:
            wait_until(answered)
        finally:
            runner.open()
        assert answer.result().status_code == 503


def test_a_second_drain_changes_nothing(pipeline_folder: Path) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    with running_service(lambda: runner) as running, ThreadPoolExecutor() as pool:
        runner.close()
        answer = pool.submit(running.client.post, "/generate", json=ONE)
        wait_until(lambda: running.queue_row_steps > 0)
        running.engine.drain()
        running.engine.drain()
        assert running.engine.status == "draining"
        runner.open()
        assert answer.result().status_code == 200
        running.engine.join(PATIENCE_S)
        assert running.engine.status == "stopped"


@pytest.mark.parametrize("early", [True, False])
def test_sigterm_ends_an_idle_or_starting_service(pipeline_folder: Path, early: bool) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process(DIT_MODEL=str(pipeline_folder), DIT_PORT=str(port)) as service:
        if early:
            wait_until(lambda: answers(f"{url}/livez", 200), PROCESS_S)
        else:
            wait_until(lambda: answers(f"{url}/readyz", 200), PROCESS_S)
        service.send_signal(signal.SIGTERM)
        assert service.wait(PROCESS_S) == 0


def test_a_missing_model_ends_the_start_with_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.pt"
    with process(DIT_MODEL=str(missing), DIT_PORT="0", DIT_LOG_FORMAT="json") as service:
        assert service.wait(PROCESS_S) == 1
        assert service.stderr is not None
        output = service.stderr.read()
    lines = [
        line for line in output.splitlines() if "nowhere.pt" in line and "cannot start" in line
    ]
    assert len(lines) == 1
    assert "Traceback" not in output


def test_a_wrong_setting_ends_the_start_with_one_line() -> None:
    with process(DIT_PORT="many") as service:
        assert service.wait(PROCESS_S) == 2
        assert service.stderr is not None
        output = service.stderr.read().strip()
    assert "DIT_PORT" in output
    assert "many" in output
    assert "\n" not in output


def test_a_port_in_use_ends_the_start_with_an_error(pipeline_folder: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        with process(DIT_MODEL=str(pipeline_folder), DIT_PORT=port) as service:
            assert service.wait(PROCESS_S) == 1
            assert service.stderr is not None
            output = service.stderr.read()
    assert "address already in use" in output
    assert "Traceback" not in output
