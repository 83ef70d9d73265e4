"""Engine: the thread that owns the model and runs the admitted jobs, tick by tick."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass

import structlog

from model.runner.runner import ModelRunner
from service.engine.model_info import ModelInfo
from service.engine.watchdog import PATIENCE, EngineHung, Patience, Watchdog
from service.engine.worker import Worker
from service.errors import Unavailable
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from service.scheduling.fair import fair_scheduler
from service.scheduling.jobs import Job, JobResult
from service.scheduling.pace import Pace
from service.scheduling.scheduler import MakeScheduler
from service.tracing.stages import current_trace

IDLE_BEAT_S = 1.0
RETRY_AFTER_S = 5
STOPPING = "the service is stopping"
FAILED = "the device or the engine has failed"
STUCK = "stuck"
NO_RESPONSE = "the device does not respond"

log = structlog.get_logger()


class State(enum.Enum):
    STARTING = "starting"
    READY = "ready"
    ABOUT_TO_STOP = "about to stop"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


LOADED = {State.STARTING: State.READY}
ANNOUNCE_STOP = {State.READY: State.ABOUT_TO_STOP}
DRAIN = {
    State.STARTING: State.STOPPED,
    State.READY: State.DRAINING,
    State.ABOUT_TO_STOP: State.DRAINING,
}
DRAINED = {State.DRAINING: State.STOPPED}
FAILURE = dict.fromkeys(set(State) - {State.FAILED}, State.FAILED)
"""What happens to an engine: the state that follows each state. In other states the event changes
nothing. A failure may still surface after a stop."""

ADMITTING = (State.READY, State.ABOUT_TO_STOP)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What exists once the model is loaded and warm."""

    model_info: ModelInfo
    pace: Pace


class Engine:
    """Loads a model in a thread of its own and runs it until told to drain.

    ``state`` and ``failure`` change in `_move` alone. ``ended`` resolves once, when the thread
    has stopped, failed or been given up.

    Args:
        load: builds the runner; called in the engine's thread, so that HTTP is available meanwhile.
        queue: where the jobs come from.
        metrics: where the engine reports its state and stages.
        drain_timeout_s: how long `drain` lets admitted jobs run.
        make_scheduler: builds the scheduler.
        patience: how long the thread may show no sign of life.
        on_ready: called once, when jobs are admitted.
    """

    def __init__(
        self,
        load: Callable[[], ModelRunner],
        queue: AdmissionQueue,
        metrics: Metrics,
        *,
        drain_timeout_s: float = 30.0,
        make_scheduler: MakeScheduler = fair_scheduler,
        patience: Patience = PATIENCE,
        on_ready: Callable[[ModelInfo], None] = lambda _: None,
    ) -> None:
        self.state = State.STARTING
        self.failure: BaseException | None = None
        self.ended: Future[None] = Future()
        self._loaded: Loaded | None = None
        self._load = load
        self._queue = queue
        self._metrics = metrics
        self._report_state(metrics)
        self._drain_timeout_s = drain_timeout_s
        self._drain_ends = float("inf")
        self._make_scheduler = make_scheduler
        self._patience = patience
        self._on_ready = on_ready
        self._watchdog = Watchdog(patience, self._expected_stretch_s, on_stuck=self._give_up)
        self._changing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def _report_state(self, metrics: Metrics) -> None:
        metrics.ready.set_function(lambda: self.ready)
        for name in (*(state.value for state in State), STUCK):
            metrics.state.labels(name).set_function(lambda name=name: self.status == name)  # type: ignore[misc]

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def announce_stop(self) -> bool:
        """Stop being ready, but admit jobs until `drain`; False if it was not ready."""
        return self._move(ANNOUNCE_STOP) is not None

    def drain(self) -> None:
        """Admit no more jobs, finish the admitted ones within the drain timeout, then end.

        During startup, end at once.
        """
        self._queue.close(Unavailable(STOPPING, retry_after_s=RETRY_AFTER_S))
        state = self._move(DRAIN)
        if state is State.DRAINING:
            self._watchdog.expect_end(self._drain_ends + self._patience.late_s)
        elif state is State.STOPPED:
            self._resolve_ended()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_s)

    @property
    def was_ready(self) -> bool:
        """Whether the start succeeded, whatever has happened since."""
        return self._loaded is not None

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """Whether a request would be admitted and run: loaded, warm, heartbeat fresh."""
        return self.state is State.READY and self.alive and not self._watchdog.stale

    @property
    def status(self) -> str:
        """The state in one word, for humans."""
        return STUCK if self.state is State.READY and not self.ready else self.state.value

    @property
    def model_info(self) -> ModelInfo:
        """The model that is served.

        Raises:
            Unavailable: it is not loaded yet, or the engine has ended.
        """
        if self.state in (State.STOPPED, State.FAILED):
            raise self._unavailable()
        return self._require_loaded().model_info

    def submit(self, job: Job) -> Future[JobResult]:
        """Admit a job. The future resolves with its result or a ServiceError, whatever happens.

        Raises:
            Unavailable: the model is not loaded yet, or the service is stopping.
            QueueFull: the queue has no room.
            DeadlinePassed: it could not finish in time.
        """
        loaded = self._require_loaded()
        trace = current_trace()
        if trace is not None:
            trace.engine_stages = job.stages
            trace.attributes |= job.describe() | {"gen_ai.request.model": loaded.model_info.name}
        self._queue.offer(job, loaded.pace)
        return self._watchdog.guard(job)

    def _expected_stretch_s(self) -> float:
        return self._loaded.pace.longest_stretch_s if self._loaded is not None else 0.0

    def _require_loaded(self) -> Loaded:
        if self._loaded is None:
            raise self._unavailable()
        return self._loaded

    def _unavailable(self) -> Unavailable:
        return Unavailable(f"the service is {self.state.value}", retry_after_s=RETRY_AFTER_S)

    def _move(
        self,
        event: Mapping[State, State],
        *,
        loaded: Loaded | None = None,
        failure: BaseException | None = None,
    ) -> State | None:
        """Change to the state that follows the present one at this event, if any."""
        with self._changing:
            state = event.get(self.state)
            if state is None:
                return None
            if state is State.DRAINING:
                self._drain_ends = time.monotonic() + self._drain_timeout_s
            self._loaded = loaded or self._loaded
            self.failure = failure
            self.state = state
        return state

    def _run(self) -> None:
        try:
            worker = self._start_up()
            if worker is not None:
                self._work(worker)
        except BaseException as error:  # noqa: BLE001 - the main thread reports it
            self._move(FAILURE, failure=error)
        finally:
            self._end(STOPPING)

    def _start_up(self) -> Worker | None:
        """Load and warm up; None if the engine was stopped meanwhile."""
        runner = self._load()
        pace = Pace(runner.warm_up(log.info), runner.max_rows)
        worker = Worker(
            runner,
            self._queue,
            self._metrics,
            pace=pace,
            scheduler=self._make_scheduler(pace, time.monotonic),
            beat=self._beat,
        )
        model_info = ModelInfo.of(runner.checkpoint)
        self._metrics.model_info.info(model_info.labels())
        self._beat()
        if self._move(LOADED, loaded=Loaded(model_info, pace)) is None:
            return None
        self._watchdog.start()
        self._on_ready(model_info)
        return worker

    def _work(self, worker: Worker) -> None:
        """Step until drained or failed. Jobs that remain are answered with 503 in either case."""
        why = FAILED
        try:
            while not self._finished(worker):
                if not worker.busy:
                    self._queue.wait(IDLE_BEAT_S)
                    self._watchdog.rested()
                worker.step()
                self._beat()
            self._move(DRAINED)
            why = STOPPING
        finally:
            reason = Unavailable(why, retry_after_s=RETRY_AFTER_S)
            self._queue.close(reason)
            worker.abandon(reason)

    def _finished(self, worker: Worker) -> bool:
        state = self.state  # another thread may change it meanwhile
        if state is not State.DRAINING:
            return state not in ADMITTING  # FAILED: the watchdog gave up on it
        return not worker.busy or time.monotonic() > self._drain_ends

    def _give_up(self) -> None:
        """Called by the watchdog: the thread hangs in the device's libraries."""
        if time.monotonic() < self._drain_ends:
            silence = f"the engine has shown no sign of life for {self._watchdog.silence_s:.0f} s"
            log.error("given up", reason=silence)
            self._move(FAILURE, failure=EngineHung(silence))
        self._end(NO_RESPONSE)

    def _end(self, why: str) -> None:
        """Refuse new jobs, answer those that still wait, and resolve ``ended``."""
        reason = Unavailable(why, retry_after_s=RETRY_AFTER_S)
        self._queue.close(reason)
        self._watchdog.end(reason)
        self._resolve_ended()

    def _resolve_ended(self) -> None:
        with suppress(InvalidStateError):  # resolved before
            self.ended.set_result(None)

    def _beat(self) -> None:
        self._watchdog.beat()
        self._metrics.heartbeat.set_to_current_time()
