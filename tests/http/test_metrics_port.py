"""The metrics' own port: what is there and what is not, in a crowd, and while the service stops."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import uvicorn
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from structlog.testing import capture_logs

from model.runner.runner import ModelRunner
from service.http.connections.limits import ConnectionLimits
from service.http.connections.table import SPARE
from service.http.metrics_port.listener import MAX_CONNECTIONS
from service.launch import serve
from service.settings import Settings, read_settings
from tests.support.processes import PROCESS_S, process
from tests.support.raw import connect, post, read_all
from tests.support.requests import PICTURE, generate
from tests.support.services import (
    PATIENCE_S,
    GatedRunner,
    Running,
    load_small_checkpoint,
    load_small_runner,
    running_service,
    wait_until,
)

HOSTS = ("dit.example",)


def scrape(running: Running, path: str = "/metrics", **headers: str) -> httpx.Response:
    """Each on a connection of its own."""
    return httpx.get(
        f"{running.metrics_url}{path}", headers=headers, trust_env=False, timeout=PATIENCE_S
    )


def scraper(running: Running, data: bytes = b"") -> socket.socket:
    """A connection to the metrics' port."""
    url = httpx.URL(running.metrics_url)
    connection = socket.create_connection((url.host, url.port or 0), timeout=PATIENCE_S)
    connection.sendall(data)
    return connection


@pytest.fixture(scope="module")
def apart(pipeline_folder: Path) -> Iterator[Running]:
    """A service with a port for its metrics."""
    with running_service(
        lambda: load_small_runner(pipeline_folder), metrics_hosts=HOSTS
    ) as running:
        yield running


def test_metrics_are_on_their_own_port_and_nowhere_else(apart: Running) -> None:
    assert generate(apart, PICTURE).status_code == 200
    answer = scrape(apart)
    assert answer.status_code == 200
    assert 'dit_requests_total{outcome="ok",route="/generate"} 1.0' in answer.text
    assert answer.headers["X-Request-Id"]
    assert answer.headers["Date"]
    assert apart.client.get("/metrics").status_code == 404
    assert "/metrics" not in apart.client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize("path", ["/", "/livez", "/models", "/docs", "/openapi.json", "/metrics/"])
def test_nothing_else_is_on_that_port(apart: Running, path: str) -> None:
    assert scrape(apart, path).status_code == 404
    url = f"{apart.metrics_url}/generate"
    assert httpx.post(url, json=PICTURE, trust_env=False).status_code == 404


def test_prometheus_gets_openmetrics_with_exemplars_there(apart: Running) -> None:
    assert generate(apart, PICTURE).status_code == 200
    answer = scrape(apart, accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = openmetrics(answer.text)  # type: ignore[no-untyped-call]
    samples = [sample for family in families for sample in family.samples]
    assert any(sample.exemplar for sample in samples)


def test_scrapes_are_counted_as_on_the_main_port(apart: Running) -> None:
    labels = {"route": "/metrics", "outcome": "ok"}
    before = apart.metric("dit_requests_total", **labels)
    assert scrape(apart).status_code == 200
    wait_until(lambda: apart.metric("dit_requests_total", **labels) == before + 1)


@pytest.mark.parametrize(("host", "status"), [("dit.example:9464", 200), ("evil.example", 421)])
def test_the_names_of_the_service_hold_for_that_port(
    apart: Running, host: str, status: int
) -> None:
    assert scrape(apart, host=host).status_code == status


def test_a_service_whose_connections_are_all_busy_can_be_scraped(pipeline_folder: Path) -> None:
    """At the limit and beyond it, where the main port closes what is new."""
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    limits = ConnectionLimits(max_connections=2)
    with (
        running_service(lambda: runner, connection_limits=limits, metrics_hosts=HOSTS) as running,
        ExitStack() as stack,
    ):
        runner.close()
        for _ in range(2):
            stack.enter_context(connect(running, post()))
        wait_until(lambda: running.queue_row_steps == 2 * 2 * 2)
        for _ in range(SPARE):  # refused, but not read, so they stay
            stack.enter_context(connect(running, post(PICTURE)[:-1]))
        wait_until(lambda: len(running.server.server_state.connections) >= 2)
        for _ in range(3 * SPARE):
            with connect(running) as late:
                late.settimeout(0.05)
            assert scrape(running).status_code == 200
        assert running.metric("dit_connections_cut_total", reason="slow request head") == 0
        runner.open()


def test_scrapers_that_send_nothing_do_not_keep_others_out(pipeline_folder: Path) -> None:
    with (
        running_service(
            lambda: load_small_runner(pipeline_folder), metrics_hosts=HOSTS, wait_ready=False
        ) as running,
        ExitStack() as stack,
    ):
        for _ in range(MAX_CONNECTIONS + SPARE):
            stack.enter_context(scraper(running))
        assert scrape(running).status_code == 200
        assert running.metric("dit_connections_cut_total", reason="displaced") > 0


def test_a_scraper_has_as_long_as_any_client(pipeline_folder: Path) -> None:
    limits = ConnectionLimits(head_s=0.1)
    with running_service(
        lambda: load_small_runner(pipeline_folder),
        connection_limits=limits,
        metrics_hosts=HOSTS,
        wait_ready=False,
    ) as running:
        taken = (seconds_for_half_a_head(running) for _ in range(3))
        assert any(seconds < ConnectionLimits().head_s for seconds in taken)  # unless it is starved


def seconds_for_half_a_head(running: Running) -> float:
    """How long the metrics' port waits for the rest of a head."""
    began = time.monotonic()
    with scraper(running, b"GET /metrics HTTP/1.1\r\nHost") as slow:
        assert read_all(slow).startswith(b"HTTP/1.1 408 ")
    return time.monotonic() - began


def test_the_drain_can_be_seen_until_the_last_connection_is_closed(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    seen: list[str] = []
    shutdown = uvicorn.Server.shutdown

    with running_service(lambda: runner, metrics_hosts=HOSTS) as running:

        async def watched_shutdown(
            self: uvicorn.Server, sockets: list[socket.socket] | None = None
        ) -> None:
            await shutdown(self, sockets)
            seen.append((await asyncio.to_thread(scrape, running)).text)

        monkeypatch.setattr(uvicorn.Server, "shutdown", watched_shutdown)
        runner.close()
        with connect(running, post()):
            wait_until(lambda: running.queue_row_steps > 0)
            running.engine.drain()
            text = scrape(running).text
            assert 'dit_state{state="draining"} 1.0' in text
            assert "dit_ready 0.0" in text
            runner.open()
    assert ['dit_state{state="stopped"} 1.0' in text for text in seen] == [True]
    with pytest.raises(httpx.ConnectError):
        scrape(running)


def test_a_scrape_under_way_does_not_hold_up_the_end(pipeline_folder: Path) -> None:
    with running_service(
        lambda: load_small_runner(pipeline_folder), metrics_hosts=HOSTS, wait_ready=False
    ) as running:
        half = scraper(running, b"GET /metrics HTTP/1.1\r\n")
    with half:
        assert read_all(half) == b""


def test_the_settings_reach_the_port() -> None:
    may_end = threading.Event()

    def load(_: Settings) -> ModelRunner:
        assert may_end.wait(PATIENCE_S)
        raise ValueError("enough")

    settings = read_settings(["--port", "0", "--metrics-port", "0", "--host", "localhost"])
    with capture_logs() as lines:
        thread = threading.Thread(target=serve, args=(settings, load))
        thread.start()
        wait_until(lambda: any(line["event"] == "metrics" for line in lines))
    (url,) = (line["url"] for line in lines if line["event"] == "metrics")
    try:
        wait_until(lambda: httpx.get(url, trust_env=False).status_code == 200)
        rebound = httpx.get(url, headers={"Host": "evil.example"}, trust_env=False)
        assert rebound.status_code == 421
    finally:
        may_end.set()
        thread.join(PATIENCE_S)


def test_a_taken_port_ends_the_start_with_one_line() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with process(DIT_PORT="0", DIT_METRICS_PORT=str(port)) as service:
            assert service.wait(PROCESS_S) == 1
            assert service.stderr is not None
            output = service.stderr.read()
    assert output == (
        f"port {port} of 127.0.0.1: address already in use;"
        " DIT_METRICS_PORT (--metrics-port) sets another\n"
    )
