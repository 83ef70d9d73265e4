"""An engine that dies or hangs: whoever waits is told, and the process ends for its supervisor."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from model.runner.runner import ModelRunner
from service.engine.engine import State
from service.engine.watchdog import EngineHung, Patience, Watchdog
from service.errors import DeadlinePassed, ImageFailed, ServiceError, Unavailable
from service.launch import exit_code
from service.scheduling.jobs import Job, JobResult, Timings
from tests.support.dying_service import dying_runner
from tests.support.faulty import BAD_LABEL, FaultyNetwork, FaultyVae, Gate, with_faulty_vae
from tests.support.jobs import job
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
BAD = PICTURE | {"class_label": BAD_LABEL}
RESULT = JobResult([np.zeros((1, 1, 3), dtype=np.uint8)], Timings(0.0, 0.0, 0.0))


@contextmanager
def watching(
    *,
    hung_s: float = PATIENCE_S,
    late_s: float = 0.05,
    on_stuck: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Watchdog]:
    watch = Watchdog(lambda: hung_s, late_s=late_s, on_stuck=on_stuck, clock=clock)
    watch.start()
    try:
        yield watch
    finally:
        watch.end(Unavailable("the test is over"))


def due_in(seconds: float) -> Job:
    return job("a job", [1], deadline=time.monotonic() + seconds)


def error_of(promise: Future[JobResult]) -> BaseException | None:
    return promise.exception(PATIENCE_S)


def test_a_promise_comes_to_what_the_job_comes_to() -> None:
    with watching() as watch:
        good, bad, early = due_in(60), due_in(60), due_in(60)
        early.future.set_result(RESULT)
        promises = [watch.guard(each) for each in (good, bad, early)]
        good.future.set_result(RESULT)
        bad.fail(ImageFailed("boom"))
        assert promises[0].result(PATIENCE_S) is promises[2].result(PATIENCE_S) is RESULT
        assert isinstance(error_of(promises[1]), ImageFailed)


def test_a_job_that_nobody_ends_is_ended_after_its_deadline() -> None:
    with watching() as watch:
        patient, hasty = due_in(60), due_in(0.1)
        waits, promise = watch.guard(patient), watch.guard(hasty)
        assert isinstance(error_of(promise), DeadlinePassed)
        assert time.monotonic() >= hasty.deadline + 0.05
        hasty.future.set_result(RESULT)  # the engine wakes up late
        assert isinstance(error_of(promise), DeadlinePassed)
        assert not waits.done()


def test_many_jobs_are_each_ended_in_their_time() -> None:
    with watching() as watch:
        promises = [watch.guard(due_in(0.2 - i / 100)) for i in range(20)]
        assert all(isinstance(error_of(promise), DeadlinePassed) for promise in promises)


def test_a_job_is_not_ended_early_with_another_that_is_due() -> None:
    with watching(late_s=0.4) as watch:
        due, later = due_in(0.1), due_in(0.3)
        promises = [watch.guard(due), watch.guard(later)]
        assert isinstance(error_of(promises[1]), DeadlinePassed)
        assert time.monotonic() >= later.deadline + 0.4
        assert isinstance(error_of(promises[0]), DeadlinePassed)


def test_the_end_of_the_watch_answers_everybody() -> None:
    with watching() as watch:
        early, late = due_in(60), due_in(60)
        promise = watch.guard(early)
        watch.end(Unavailable("over"))
        assert isinstance(error_of(promise), Unavailable)
        assert isinstance(error_of(watch.guard(late)), Unavailable)
        early.fail(ImageFailed("boom"))
        assert isinstance(error_of(promise), Unavailable)


def test_the_first_reason_for_the_end_stays() -> None:
    with watching() as watch:
        watch.end(Unavailable("the first"))
        watch.end(Unavailable("the second"))
        error = error_of(watch.guard(due_in(60)))
        assert isinstance(error, Unavailable)
        assert error.detail == "the first"


def test_an_end_in_order_is_no_hanging() -> None:
    stuck = threading.Event()
    with watching(on_stuck=stuck.set) as watch:
        watch.end(Unavailable("over"))
        assert not stuck.wait(0.2)


def test_a_promise_cannot_be_taken_back_by_whoever_waits() -> None:
    with watching() as watch:
        good = due_in(60)
        promise = watch.guard(good)
        assert not promise.cancel()
        good.future.set_result(RESULT)
        assert promise.result(PATIENCE_S) is RESULT


def test_patience_is_for_so_many_ticks_where_these_take_longer() -> None:
    patience = Patience(stale_s=5.0, hung_s=60.0)
    assert (patience.stale_after(1.0), patience.hung_after(1.0)) == (5.0, 60.0)
    assert (patience.stale_after(10.0), patience.hung_after(10.0)) == (30.0, 200.0)


def test_silence_is_noticed_and_a_beat_breaks_it() -> None:
    stuck = threading.Event()
    with watching(hung_s=0.8, on_stuck=stuck.set) as watch:
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            watch.beat()
            assert not stuck.wait(0.02)
        assert stuck.wait(PATIENCE_S)
        assert watch.silence_s >= 0.8


def test_a_time_that_the_whole_process_was_stopped_is_no_silence() -> None:
    stuck = threading.Event()
    stopped_s = 0.0
    with watching(
        hung_s=1.0, on_stuck=stuck.set, clock=lambda: time.monotonic() + stopped_s
    ) as watch:
        stopped_s = 1000.0
        assert not stuck.wait(1.3)  # the watch has woken up meanwhile
        watch.beat()
        assert stuck.wait(PATIENCE_S)


def test_an_end_that_is_expected_and_does_not_come_is_noticed() -> None:
    stuck = threading.Event()
    with watching(on_stuck=stuck.set) as watch:
        watch.expect_end(time.monotonic() + 0.1)
        assert stuck.wait(PATIENCE_S)


@contextmanager
def stuck_service(
    folder: Path, patience: Patience, *, in_decode: bool = False
) -> Iterator[tuple[Running, Gate]]:
    """A service whose engine hangs at a picture of `BAD_LABEL` until the gate is opened."""
    gate = Gate()

    def hang() -> BaseException:
        gate()
        return torch.AcceleratorError("woken up, to find the device gone")

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
    """The status of the error that an event stream ends with."""
    with running.client.stream("POST", "/generate", json=body, headers=STREAM) as answer:
        assert answer.status_code == 200
        *_, last = read_events(answer.iter_lines())
    assert last.name == "error"
    return last.data["status"]


@pytest.mark.parametrize("in_decode", [False, True])
def test_a_hung_engine_ends_the_service(pipeline_folder: Path, in_decode: bool) -> None:
    patience = Patience(hung_s=1.0)
    with (
        stuck_service(pipeline_folder, patience, in_decode=in_decode) as (running, gate),
        ThreadPoolExecutor() as pool,
    ):
        url = running.url
        culprit = pool.submit(generate, running, BAD)
        assert gate.reached.wait(PATIENCE_S)
        waiting = pool.submit(generate, running, PICTURE)
        streaming = pool.submit(status_in_events, running, PICTURE)
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
        gate.open()  # it wakes up, to find everybody answered
        running.engine.join(PATIENCE_S)
        assert not running.engine.alive
        assert running.engine.state is State.FAILED
        assert isinstance(running.engine.failure, EngineHung)


def test_a_stuck_engine_is_not_ready_until_it_goes_on(pipeline_folder: Path) -> None:
    with (
        stuck_service(pipeline_folder, Patience(stale_s=1.2)) as (running, gate),
        ThreadPoolExecutor() as pool,
    ):
        answer = pool.submit(generate, running, BAD)
        assert gate.reached.wait(PATIENCE_S)
        wait_until(lambda: running.client.get("/readyz").status_code == 503)
        assert "stuck" in running.client.get("/readyz").json()["detail"]
        gate.open()
        assert answer.result().status_code == 200
        wait_until(lambda: running.client.get("/readyz").status_code == 200)


def test_deadlines_hold_while_the_engine_is_stuck(pipeline_folder: Path) -> None:
    with (
        stuck_service(pipeline_folder, Patience(late_s=0.2)) as (running, gate),
        ThreadPoolExecutor() as pool,
    ):
        culprit = pool.submit(generate, running, BAD)
        assert gate.reached.wait(PATIENCE_S)
        hasty = PICTURE | {"timeout_s": 0.3}
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
def test_a_dead_engine_answers_everybody(pipeline_folder: Path, way: str) -> None:
    with (
        running_service(lambda: dying_runner(pipeline_folder, way)) as running,
        ThreadPoolExecutor() as pool,
    ):
        long = PICTURE | {"num_sampling_steps": 1000}
        plain = pool.submit(generate, running, long)
        streaming = pool.submit(status_in_events, running, long)
        wait_until(lambda: running.queue_row_steps > 2000)
        assert generate(running, BAD).status_code == 503
        assert plain.result().status_code == streaming.result() == 503
        running.engine.join(PATIENCE_S)
        assert not running.engine.ready
        assert exit_code(running.engine) == 1


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("device lost", "CUDA error: unspecified"),
        pytest.param("thread killed", "SystemExit: enough", marks=pytest.mark.slow),
        pytest.param("hung", "no sign of life for 1 s", marks=pytest.mark.slow),
    ],
)
def test_the_process_ends_with_an_error_when_its_engine_does(
    pipeline_folder: Path, way: str, said: str
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
    assert said in line.get("reason", "") + line.get("exception", "")
