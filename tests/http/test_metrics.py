"""/metrics: every metric exists and counts what happened."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Receive, Scope, Send

from deploy.dashboard.prometheus import MISSING, tool
from model.runner.decoding import Decoding
from model.runner.runner import Flight, ModelRunner, OutOfMemory
from service import __version__
from service.http.middleware.observation import Observation
from service.http.middleware.request_id import RequestId
from service.http.middleware.unexpected_errors import UnexpectedErrors
from service.metrics import Metrics, exemplar
from tests.support.networks import network_of
from tests.support.requests import PICTURE, gated_service, generate, send_bytes
from tests.support.services import (
    PATIENCE_S,
    Running,
    load_small_checkpoint,
    load_small_runner,
    running_service,
    wait_until,
)

NAMES = {
    "dit_requests": "counter",
    "dit_connections_cut": "counter",
    "dit_key_requests": "counter",
    "dit_key_rejections": "counter",
    "dit_keys_reload_failing": "gauge",
    "dit_request_duration_seconds": "histogram",
    "dit_queue_wait_seconds": "histogram",
    "dit_tick_duration_seconds": "histogram",
    "dit_tick_rows": "histogram",
    "dit_tick_images": "histogram",
    "dit_row_limit": "gauge",
    "dit_denoise_steps": "counter",
    "dit_guidance_rows_saved": "counter",
    "dit_decode_duration_seconds": "histogram",
    "dit_encode_duration_seconds": "histogram",
    "dit_sign_duration_seconds": "histogram",
    "dit_signing_failures": "counter",
    "dit_signing_expiry_timestamp_seconds": "gauge",
    "dit_images": "counter",
    "dit_requests_waiting": "gauge",
    "dit_requests_running": "gauge",
    "dit_row_steps_waiting": "gauge",
    "dit_row_steps_limit": "gauge",
    "dit_nonfinite_images": "counter",
    "dit_out_of_memory": "counter",
    "dit_gpu_memory_bytes": "gauge",
    "dit_ready": "gauge",
    "dit_state": "gauge",
    "dit_hub_cache_bytes": "gauge",
    "dit_engine_heartbeat_timestamp_seconds": "gauge",
    "dit_model_info": "gauge",
    "dit_build_info": "gauge",
    "dit_log_lines_dropped": "counter",
}
LABELS = {"route", "outcome", "kind", "format", "le", "reason", "state", "key"}


@pytest.fixture(scope="module")
def used(pipeline_folder: Path) -> Iterator[Running]:
    """A service that has answered two pictures, three images as JSON, and errors."""
    with running_service(lambda: load_small_runner(pipeline_folder)) as running:
        for seed in (1, 2):
            assert generate(running, PICTURE | {"seed": seed}).status_code == 200
        several = PICTURE | {"num_images": 3, "cfg_scale": 1.0, "output_format": "webp"}
        assert generate(running, several).status_code == 200
        assert generate(running, {"class_label": -1}).status_code == 422
        assert generate(running, {"class_label": "nothing"}).status_code == 404
        assert generate(running, PICTURE, "text/html").status_code == 406
        assert running.client.get("/livez").status_code == 200
        assert running.client.get("/made/up/path").status_code == 404
        wait_until(lambda: running.metric("dit_requests_running") == 0)
        yield running


def test_every_metric_exists_with_its_type(used: Running) -> None:
    families = text_string_to_metric_families(used.client.get("/metrics").text)
    kinds = {family.name: family.type for family in families if not family.name.endswith("created")}
    assert {name: kinds.get(name) for name in NAMES} == NAMES
    assert {name for name in kinds if name.startswith("dit_")} == set(NAMES)
    assert "process_resident_memory_bytes" in kinds


def test_no_label_holds_an_id_a_seed_or_a_class(used: Running) -> None:
    for family in text_string_to_metric_families(used.client.get("/metrics").text):
        if family.name not in ("dit_model_info", "dit_build_info"):
            assert all(sample.labels.keys() <= LABELS for sample in family.samples)


@pytest.mark.parametrize(
    ("route", "outcome", "count"),
    [
        ("/generate", "ok", 3),
        ("/generate", "invalid", 3),
        ("/generate", "failed", 0),
        ("/livez", "ok", 1),
        ("unmatched", "invalid", 1),
    ],
)
def test_requests_are_counted(used: Running, route: str, outcome: str, count: int) -> None:
    assert used.metric("dit_requests_total", route=route, outcome=outcome) == count


def test_the_stages_are_observed(used: Running) -> None:
    durations = "dit_request_duration_seconds_count"
    assert used.metric(durations, route="/generate", outcome="ok") == 3
    assert used.metric(durations, route="/generate", outcome="invalid") == 3
    seconds = used.metric("dit_request_duration_seconds_sum", route="/generate", outcome="ok")
    assert seconds > 0
    assert used.metric("dit_queue_wait_seconds_count") == 3
    # three images of a request share a pass, unless the decoder is slow
    assert 3 <= used.metric("dit_decode_duration_seconds_count") <= 5
    assert used.metric("dit_encode_duration_seconds_count", format="png") == 2
    assert used.metric("dit_encode_duration_seconds_count", format="webp") == 3
    assert used.metric("dit_tick_duration_seconds_sum") > 0


def test_the_work_is_accounted_for(used: Running) -> None:
    """Two guided images of two steps are eight row-steps, three unguided ones are six."""
    assert used.metric("dit_images_total", outcome="ok") == 5
    assert used.metric("dit_denoise_steps_total", kind="useful") == 14
    assert used.metric("dit_denoise_steps_total", kind="padding") == 0
    assert used.metric("dit_denoise_steps_total", kind="cancelled") == 0
    assert used.metric("dit_tick_rows_sum") == 14
    assert used.metric("dit_tick_images_sum") == 10
    assert used.metric("dit_tick_rows_count") == used.metric("dit_tick_duration_seconds_count") == 6


def test_the_state_is_reported(used: Running) -> None:
    assert used.metric("dit_ready") == 1
    assert used.metric("dit_state", state="ready") == 1
    assert used.metric("dit_state", state="starting") == 0
    assert used.metric("dit_requests_waiting") == 0
    assert used.metric("dit_row_steps_waiting") == 0
    assert abs(time.time() - used.metric("dit_engine_heartbeat_timestamp_seconds")) < 10
    (model,) = used.client.get("/models").json()["data"]
    labels = {
        "name": model["id"],
        "architecture": model["architecture"],
        "image_size": "8",
        "classes": "5",
        "dtype": "float32",
        "device": "cpu",
        "digest": model["digest"],
    }
    assert used.metrics.registry.get_sample_value("dit_model_info", labels) == 1
    assert used.metric("dit_build_info", version=__version__) == 1


def test_openmetrics_by_accept(used: Running) -> None:
    plain = used.client.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain; version=")
    accept = "application/openmetrics-text; version=1.0.0"
    openmetrics = used.client.get("/metrics", headers={"Accept": accept})
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")
    assert "# EOF" not in plain.text


def test_exemplars_in_openmetrics_name_the_requests(used: Running) -> None:
    accept = {"Accept": "application/openmetrics-text"}
    answer = generate(used, PICTURE | {"seed": 3})
    wait_until(
        lambda: answer.headers["X-Request-Id"] in used.client.get("/metrics", headers=accept).text
    )
    families = list(openmetrics(used.client.get("/metrics", headers=accept).text))  # type: ignore[no-untyped-call]
    for name in ("dit_request_duration_seconds", "dit_queue_wait_seconds"):
        (family,) = [each for each in families if each.name == name]
        assert answer.headers["X-Request-Id"] in {
            sample.exemplar.labels["request_id"] for sample in family.samples if sample.exemplar
        }
    assert answer.headers["X-Request-Id"] not in used.client.get("/metrics").text


def test_a_long_request_id_is_no_exemplar_and_no_error(used: Running) -> None:
    headers = {"X-Request-Id": "x" * 128}
    answer = used.client.post("/generate", json=PICTURE, headers=headers)
    assert answer.status_code == 200
    accept = {"Accept": "application/openmetrics-text"}
    assert "x" * 100 not in used.client.get("/metrics", headers=accept).text
    assert len(exemplar("x" * 118) or {}) == 1
    assert exemplar("x" * 119) is None


@pytest.mark.skipif(tool("promtool") is None, reason=MISSING)
def test_promtool_finds_no_problems(used: Running) -> None:
    checked = subprocess.run(
        [str(tool("promtool")), "check", "metrics"],
        input=used.client.get("/metrics").text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_running_and_waiting_requests_are_reported(pipeline_folder: Path) -> None:
    body = PICTURE | {"num_sampling_steps": 4}
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, max_rows=2) as (running, runner),
    ):
        answers = [pool.submit(generate, running, body) for _ in range(2)]
        wait_until(lambda: running.queue_row_steps == 16)
        runner.let(2)  # during the first, the second request may still be arriving
        wait_until(lambda: running.metric("dit_requests_waiting") == 1)
        assert running.metric("dit_requests_running") == 1
        wait_until(lambda: running.metric("dit_row_steps_waiting") == 12)
        runner.open()
        assert [answer.result().status_code for answer in answers] == [200, 200]
        wait_until(lambda: running.metric("dit_requests_running") == 0)
        wait_until(lambda: running.metric("dit_row_steps_waiting") == 0)


class FaultyRunner(ModelRunner):
    """Runs out of memory for seed 666, and makes the latent of seed 13 NaN."""

    def tick(self, flights: Sequence[Flight]) -> int:
        if any(flight.trajectory.seed == 666 for flight in flights):
            raise OutOfMemory("injected")
        return super().tick(flights)

    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        for flight in flights:
            if flight.trajectory.seed == 13:
                self._tick.latents[flight.slot].fill_(torch.nan)
        return super().start_decode(flights)


def test_faults_are_counted(pipeline_folder: Path) -> None:
    checkpoint = load_small_checkpoint(pipeline_folder)
    with running_service(
        lambda: FaultyRunner(checkpoint, network_of(checkpoint), max_rows=8)
    ) as running:
        for seed in (666, 13):
            answer = generate(running, PICTURE | {"seed": seed})
            assert answer.status_code == 500
            assert answer.json()["title"] == "Image failed"
        assert running.metric("dit_out_of_memory_total") == 2  # an image alone is tried again
        assert running.metric("dit_row_limit") == 2
        assert running.metric("dit_nonfinite_images_total") == 1
        assert running.metric("dit_images_total", outcome="failed") == 2
        wait_until(lambda: _requests(running, "failed") == 2)


def _requests(running: Running, outcome: str) -> float:
    return running.metric("dit_requests_total", route="/generate", outcome=outcome)


class PaddedRunner(ModelRunner):
    """Reports eight rows for every tick, as padding on CUDA may."""

    def tick(self, flights: Sequence[Flight]) -> int:
        super().tick(flights)
        return 8


def test_padding_is_counted(pipeline_folder: Path) -> None:
    checkpoint = load_small_checkpoint(pipeline_folder)
    with running_service(
        lambda: PaddedRunner(checkpoint, network_of(checkpoint), max_rows=8)
    ) as running:
        assert generate(running, PICTURE).status_code == 200
        assert running.metric("dit_denoise_steps_total", kind="useful") == 4
        assert running.metric("dit_denoise_steps_total", kind="padding") == 12


def test_refusals_are_counted_by_their_reason(pipeline_folder: Path) -> None:
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, max_queue_row_steps=4) as (running, runner),
    ):
        first = pool.submit(generate, running, PICTURE)
        wait_until(lambda: running.queue_row_steps == 4)
        full = generate(running, PICTURE)
        assert full.status_code == 429
        assert int(full.headers["Retry-After"]) >= 1
        runner.open()
        assert first.result().status_code == 200
        wait_until(lambda: running.queue_row_steps == 0)
        late = send_bytes(running, b'{"class_label":0,"timeout_s":1e-9}')
        assert late.status == 504
        running.engine.drain()
        stopping = generate(running, PICTURE)
        assert stopping.status_code == 503
        for outcome in ("full", "impossible", "unavailable"):
            wait_until(lambda counted=outcome: _requests(running, counted) == 1)  # type: ignore[misc]


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_an_impossible_deadline_has_an_outcome_of_its_own(
    pipeline_folder: Path, accept: str
) -> None:
    body = PICTURE | {"num_sampling_steps": 1000, "timeout_s": 0.02}
    with running_service(lambda: load_small_runner(pipeline_folder)) as running:
        answer = running.client.post("/generate", json=body, headers={"Accept": accept})
        assert "timeout" in answer.text or "deadline" in answer.text
        wait_until(lambda: _requests(running, "impossible") == 1)
        assert _requests(running, "timeout") == 0


@pytest.mark.parametrize(
    ("status", "broken", "outcome"),
    [
        (200, False, "ok"),
        (399, False, "ok"),
        (400, False, "invalid"),
        (499, False, "cancelled"),
        (500, False, "failed"),
        (200, True, "failed"),
        (404, True, "failed"),
    ],
)
def test_an_answer_is_counted_by_its_status_and_whether_it_broke_off(
    status: int, broken: bool, outcome: str
) -> None:
    metrics = Metrics()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        if broken:
            raise RuntimeError("midway")
        await send({"type": "http.response.body", "body": b""})

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    async def ignore(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    app = RequestId(Observation(UnexpectedErrors(answer), metrics))
    asyncio.run(app(scope, nothing, ignore))
    labels = {"route": "unmatched", "outcome": outcome}
    assert metrics.registry.get_sample_value("dit_requests_total", labels) == 1


def test_a_draining_service_reports_that_it_is_not_ready(
    pipeline_folder: Path,
) -> None:
    with ThreadPoolExecutor() as pool, gated_service(pipeline_folder) as (running, runner):
        answer = pool.submit(generate, running, PICTURE)
        wait_until(lambda: running.queue_row_steps == 4)
        assert running.metric("dit_ready") == 1
        running.engine.drain()
        assert running.metric("dit_ready") == 0
        assert not answer.done()
        runner.open()
        answer.result()
        running.engine.join(PATIENCE_S)
        assert running.metric("dit_ready") == 0
