"""A real Prometheus that scrapes a real service: the dashboard has values, and the alerts fire."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bench.load.processes import free_port
from deploy.dashboard.dcgm import stand_in
from deploy.dashboard.load import API_KEYS, KEY_LIST, Sent, load
from deploy.dashboard.panels import CUDA, ROWS, Query
from deploy.dashboard.prometheus import (
    MISSING,
    Prometheus,
    running_prometheus,
    tool,
    wait_for,
)
from tests.ops.stack.files import text_of
from tests.support.processes import process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(tool("prometheus") is None, reason=MISSING),
]

LOAD_S = 40.0
RATE_INTERVAL = "15s"
READY_S = 120.0
CRASH_ALERT_S = 600.0

QUERIES = [query for row in ROWS for panel in row.panels for query in panel.queries]
RULES = [
    rule
    for group in yaml.safe_load(text_of("deploy/alerts.yml"))["groups"]
    for rule in group["rules"]
    if "dit_fleet_" not in rule["expr"]  # of a fleet's front alone
]
SELECTOR = re.compile(r"\b(?:up|(?:dit|process|DCGM)_\w+)\b(?:\{[^}]*\})?")


class Watched:
    """A Prometheus whose service has been under load, and when the load was at its height."""

    def __init__(self, prometheus: Prometheus, sent: Sent, at: float) -> None:
        self.prometheus = prometheus
        self.sent = sent
        self.at = at

    def values(self, expr: str) -> list[float]:
        """What a query of the dashboard gave under load."""
        filled = expr.replace("$__rate_interval", RATE_INTERVAL).replace("$instance", ".*")
        return [sample.value for sample in self.prometheus.query(filled, self.at)]

    def total(self, expr: str) -> float:
        """A counter's sum after the load."""
        (sample,) = self.prometheus.query(f"sum({expr})")
        return sample.value


def read_log(running: subprocess.Popen[str]) -> None:
    """Or lines would be dropped, and their alert fire."""
    for _ in running.stderr or ():
        pass


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The bundled model, its queue small, after clients of every kind."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    host = f"127.0.0.1:{port}"
    settings = {
        "DIT_PORT": str(port),
        "DIT_MAX_QUEUE_ROW_STEPS": "400",
        "DIT_LOG_FORMAT": "json",
        "DIT_API_KEYS": KEY_LIST,
        "DIT_METRICS_WITHOUT_KEY": "true",
    }
    with (
        process(**settings) as running,
        stand_in() as dcgm,
        running_prometheus(folder, {"dit": host, "dcgm": dcgm}) as prometheus,
    ):
        threading.Thread(target=read_log, args=(running,), daemon=True).start()
        wait_for(prometheus, "dit_ready == 1", READY_S)
        sent = load(host, LOAD_S)
        at = time.time() - 2.0
        idle = "sum(dit_requests_running) + sum(dit_requests_waiting) == 0"
        wait_for(prometheus, idle, READY_S)
        time.sleep(3.0)  # two scrapes more
        yield Watched(prometheus, sent, at)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.expr[:60])
def test_every_query_of_the_dashboard_has_a_value_under_load(
    watched: Watched, query: Query
) -> None:
    values = watched.values(query.expr)
    if query.empty == CUDA:
        assert not values
        return
    assert values
    assert all(math.isfinite(value) for value in values)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_series_that_an_alert_reads_exists(watched: Watched, rule: dict[str, str]) -> None:
    found = SELECTOR.findall(rule["expr"])
    assert found
    for selector in found:
        any_outcome = re.sub(r',?outcome=~?"[^"]*"', "", selector)
        assert watched.values(any_outcome), selector


def test_a_healthy_service_under_load_raises_nothing(watched: Watched) -> None:
    assert [alert["alertname"] for alert in watched.prometheus.alerts()] == []


def test_what_was_sent_is_what_was_counted(watched: Watched) -> None:
    """Accepted, rejected and cancelled ones are all; nothing stays in a gauge."""
    sent = watched.sent
    counted = {
        outcome: watched.total(
            f'dit_requests_total{{route="/generate",outcome="{outcome}"}} or vector(0)'
        )
        for outcome in ("ok", "invalid", "full", "limited", "cancelled", "timeout", "impossible")
    }
    let_in = sent.requests - sent.answers["401"]
    assert watched.total('dit_requests_total{route="/generate"}') == let_in
    assert sum(counted.values()) == let_in
    assert watched.total('dit_key_rejections_total{reason="missing"}') == sent.answers["401"] > 0
    assert watched.total('dit_key_rejections_total{key="batch"}') == counted["limited"] > 0
    for key in API_KEYS:
        assert watched.total(f'dit_key_requests_total{{key="{key}"}}') > 0
    assert counted["ok"] == sent.answers["200"] > 0
    assert counted["invalid"] == sent.answers["422"] > 0
    assert sent.answers["left"] > 0
    # A client may leave just when it is answered.
    refused = counted["full"] + counted["limited"]
    assert 0 <= sent.answers["left"] - counted["cancelled"] <= refused
    late = counted["timeout"] + counted["impossible"]
    assert late == sent.answers["504"]
    assert watched.total('dit_images_total{outcome="ok"}') >= sent.images
    assert watched.total("dit_request_duration_seconds_count") >= sent.requests
    for gauge in ("dit_requests_running", "dit_requests_waiting", "dit_row_steps_waiting"):
        assert watched.total(gauge) == 0


def test_exemplars_lead_to_requests(watched: Watched) -> None:
    begin, end = watched.at - LOAD_S, watched.at
    for metric in ("dit_request_duration_seconds_bucket", "dit_queue_wait_seconds_bucket"):
        found = watched.prometheus.exemplars(metric, begin, end)
        assert found
        assert all(re.fullmatch(r"[0-9a-f]{32}", each["request_id"]) for each in found)


def test_a_loop_of_crashes_raises_its_alert(tmp_path: Path) -> None:
    """As under Docker: killed soon after it was seen, and started again."""
    port, began = free_port(), time.monotonic()
    with running_prometheus(tmp_path, {"dit": f"127.0.0.1:{port}"}) as prometheus:
        for _ in range(10):
            with process(DIT_PORT=str(port)) as running:
                seen = f"timestamp(process_start_time_seconds{{job='dit'}}) > {time.time()}"
                wait_for(prometheus, seen, READY_S)
                running.send_signal(signal.SIGKILL)
                running.wait()
            firing = [alert["alertname"] for alert in prometheus.alerts()]
            if "DitRestarts" in firing:
                break
        assert "DitRestarts" in firing
    assert time.monotonic() - began < CRASH_ALERT_S


def test_an_upgrade_raises_nothing(tmp_path: Path) -> None:
    port = free_port()
    with running_prometheus(tmp_path, {"dit": f"127.0.0.1:{port}"}) as prometheus:
        for _ in range(2):
            with process(DIT_PORT=str(port)) as running:
                wait_for(prometheus, f"timestamp(dit_ready == 1) > {time.time()}", READY_S)
                running.send_signal(signal.SIGTERM)
                try:
                    running.wait(30.0)
                except subprocess.TimeoutExpired:
                    pytest.fail("did not stop")
        assert prometheus.alerts() == []
