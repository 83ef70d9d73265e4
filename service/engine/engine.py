"""Engine: the thread that owns the model and works off the admission queue, tick by tick."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import structlog

from model.runner.runner import ModelRunner
from service.engine.model_info import ModelInfo
from service.engine.watchdog import PATIENCE, EngineHung, Patience, Watch
from service.engine.worker import Worker
from service.errors import Unavailable
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from service.scheduling.fair import FairScheduler
from service.scheduling.jobs import Job, JobResult
from service.scheduling.pace import Pace
from service.scheduling.scheduler import Scheduler

IDLE_BEAT_S = 1.0
STOPPING = "the service is stopping"
FAILED = "the device or the engine has failed"

log = structlog.get_logger()


class State(enum.Enum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class Engine:
    """Loads a model in a thread of its own and runs it until it is told to drain.

    Args:
        load: builds the runner; called in the engine's thread, so that HTTP answers meanwhile.
        queue: where the jobs come from.
        metrics: where the stages are observed.
        drain_timeout_s: how long `drain` lets the images that are in go on.
        make_scheduler: the policy, given the rows of the largest tick and the images that may be in
            flight.
        patience: how long the thread may show no sign of life.
    """

    def __init__(
        self,
        load: Callable[[], ModelRunner],
        queue: AdmissionQueue,
        metrics: Metrics,
        *,
        drain_timeout_s: float = 30.0,
        make_scheduler: Callable[[int, int], Scheduler] = FairScheduler,
        patience: Patience = PATIENCE,
    ) -> None:
        self.state = State.STARTING
        self.failure: BaseException | None = None
        self._load = load
        self._queue = queue
        self._metrics = metrics
        self._drain_timeout_s = drain_timeout_s
        self._make_scheduler = make_scheduler
        self._drain_ends = float("inf")
        self._served: ModelInfo | None = None
        self._pace: Pace | None = None
        self._patience = patience
        self._watch = Watch(
            lambda: patience.hung_after(self._longest_tick_s),
            late_s=patience.late_s,
            on_stuck=self._on_stuck,
        )
        self._changing = threading.Lock()
        self._thread = threading.Thread(target=self._live, name="engine", daemon=True)
        self._on_end: Callable[[], None] = lambda: None

    def start(self, on_end: Callable[[], None] = lambda: None) -> None:
        """Start the thread; ``on_end`` is called when it has stopped, failed, or is given up."""
        self._on_end = on_end
        self._thread.start()

    def drain(self) -> None:
        """Admit nothing more, finish what is in within the drain timeout, then end.

        A start still under way is given up at once.
        """
        self._queue.close(Unavailable(STOPPING, retry_after_s=5))
        with self._changing:
            self._metrics.ready.set(0)
            starting = self.state is State.STARTING
            if starting:
                self.state = State.STOPPED
            elif self.state is State.READY:
                self.state = State.DRAINING
                self._drain_ends = time.monotonic() + self._drain_timeout_s
        self._watch.expect_end(self._drain_ends + self._patience.late_s)
        if starting:
            self._on_end()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_s)

    @property
    def was_ready(self) -> bool:
        """Whether the start succeeded, whatever happened since."""
        return self._served is not None

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """Whether a request would be admitted and worked on: loaded, warm, heartbeat fresh."""
        if self.state is not State.READY or self._pace is None or not self.alive:
            return False
        return self._watch.silence_s < self._patience.stale_after(self._longest_tick_s)

    @property
    def served(self) -> ModelInfo:
        """The model that is served.

        Raises:
            Unavailable: it is not loaded yet, or the engine has ended.
        """
        if self._served is None or self.state in (State.STOPPED, State.FAILED):
            raise Unavailable(f"the service is {self.state.value}", retry_after_s=5)
        return self._served

    @property
    def status(self) -> str:
        """In a word, for people."""
        return "stuck" if self.state is State.READY and not self.ready else self.state.value

    def submit(self, job: Job) -> Future[JobResult]:
        """Admit a job; the future ends with its result or a ServiceError, whatever happens.

        Raises:
            Unavailable: the model is not loaded yet, or the service stops.
            QueueFull: no room.
            DeadlinePassed: it could not be done in time.
        """
        if self._pace is None:
            raise Unavailable(f"the service is {self.state.value}", retry_after_s=5)
        self._queue.offer(job, self._pace)
        return self._watch.promise(job)

    @property
    def _longest_tick_s(self) -> float:
        return self._pace.tick_seconds(self._pace.max_rows) if self._pace else 0.0

    def _live(self) -> None:
        try:
            worker = self._begin()
            if worker is not None:
                self._work(worker)
        except BaseException as error:  # noqa: BLE001 - kept, and told by whoever started us
            self._fail(error)
        finally:
            self._end(STOPPING)

    def _begin(self) -> Worker | None:
        """Load and warm up; None where the start was given up meanwhile."""
        runner = self._load()
        times = runner.warm_up(log.info)
        with self._changing:
            if self.state is not State.STARTING:
                return None
            self._pace = Pace(times, runner.max_rows)
            self._served = ModelInfo.of(runner.checkpoint)
            self._metrics.model_info.info(self._served.labels())
            self._watch.start()
            self._beat()
            self.state = State.READY
            self._metrics.ready.set(1)
        log.info("ready", model=self._served.name, device=self._served.device)
        scheduler = self._make_scheduler(runner.max_rows, runner.slots)
        return Worker(runner, self._queue, self._metrics, pace=self._pace, scheduler=scheduler)

    def _work(self, worker: Worker) -> None:
        """Step until drained; whoever is in when this ends is answered, whatever ended it."""
        why = FAILED
        try:
            while not self._over(worker):
                idle = self.state is State.READY and not worker.busy
                worker.step(wait_s=IDLE_BEAT_S if idle else 0.0)
                self._beat()
            self._stop()
            why = STOPPING
        finally:
            reason = Unavailable(why, retry_after_s=5)
            self._queue.close(reason)
            worker.abandon(reason)

    def _over(self, worker: Worker) -> bool:
        if self.state is not State.DRAINING:
            return self.state is State.FAILED  # given up while it hung
        return not worker.busy or time.monotonic() > self._drain_ends

    def _stop(self) -> None:
        with self._changing:
            if self.state is State.DRAINING:
                self.state = State.STOPPED

    def _on_stuck(self) -> None:
        """Called by the watch: the thread is inside the device's libraries, and is left there."""
        if time.monotonic() < self._drain_ends:
            silence = f"the engine has shown no sign of life for {self._watch.silence_s:.0f} s"
            log.error("given up", reason=silence)
            self._fail(EngineHung(silence))
        self._end("the device does not answer")

    def _fail(self, error: BaseException) -> None:
        with self._changing:
            if self.state is not State.FAILED:  # else the first failure led to this one
                self.failure, self.state = error, State.FAILED

    def _end(self, why: str) -> None:
        reason = Unavailable(why, retry_after_s=5)
        self._metrics.ready.set(0)
        self._queue.close(reason)
        self._watch.end(reason)
        self._on_end()

    def _beat(self) -> None:
        self._watch.beat()
        self._metrics.heartbeat.set_to_current_time()
