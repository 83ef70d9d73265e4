"""Watch: sees to it that whoever was admitted is answered, also where the engine's thread hangs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from service.errors import DeadlinePassed, ServiceError
from service.scheduling.jobs import Job, JobResult

STALE_TICKS = 3
HUNG_TICKS = 20


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, the engine may show no sign of life.

    After ``stale_s`` the service is not ready, after ``hung_s`` it is given up: or after so many
    of the longest ticks, where those take longer. A request waits ``late_s`` after its deadline
    for the engine to end it, and a stop as long for the engine to end.
    """

    stale_s: float = 5.0
    hung_s: float = 60.0
    late_s: float = 5.0

    def stale_after(self, longest_tick_s: float) -> float:
        return max(self.stale_s, STALE_TICKS * longest_tick_s)

    def hung_after(self, longest_tick_s: float) -> float:
        return max(self.hung_s, HUNG_TICKS * longest_tick_s)


PATIENCE = Patience()


class EngineHung(RuntimeError):
    """The engine's thread has shown no sign of life for too long."""


class Watch:
    """One thread beside the engine's, which sleeps until something could be overdue.

    Each job's waiter is given a promise: a future of its own, that ends as the job's future does,
    or by the watch's word where that does not end. So the engine may wake up late and end a job
    that was answered long ago.

    Args:
        hung_after_s: how long the engine may be silent, as of now.
        late_s: how long after its deadline a job may end.
        on_stuck: called once, in the watch's thread, when the engine is silent for too long or has
            not ended by the time that `expect_end` was given.
    """

    def __init__(
        self,
        hung_after_s: Callable[[], float],
        *,
        late_s: float,
        on_stuck: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hung_after_s = hung_after_s
        self._late_s = late_s
        self._on_stuck = on_stuck
        self._clock = clock
        self._heard = clock()
        self._end_expected = math.inf
        self._promises: dict[Job, Future[JobResult]] = {}
        self._over: ServiceError | None = None
        self._changed = threading.Condition()
        self._awaited = 0.0
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self.beat()
        self._thread.start()

    def beat(self) -> None:
        """The engine is alive."""
        self._heard = self._clock()

    @property
    def silence_s(self) -> float:
        """Since the last sign of life."""
        return self._clock() - self._heard

    def promise(self, job: Job) -> Future[JobResult]:
        """What an admitted job's client waits for."""
        promise: Future[JobResult] = Future()
        promise.set_running_or_notify_cancel()  # it ends by our word alone
        with self._changed:
            if self._over is not None:
                promise.set_exception(self._over)
                return promise
            self._promises[job] = promise
            if job.deadline + self._late_s < self._awaited:
                self._changed.notify()
        job.future.add_done_callback(lambda done: self._keep(job, done))
        return promise

    def expect_end(self, when: float) -> None:
        """The engine is to have ended by this time."""
        with self._changed:
            self._end_expected = when
            self._changed.notify()

    def end(self, reason: ServiceError) -> None:
        """Answer whoever still waits, and whoever comes later, with ``reason``; watch no longer."""
        with self._changed:
            self._over = self._over or reason
            broken, self._promises = self._promises, {}
            self._changed.notify()
        for promise in broken.values():
            promise.set_exception(reason)

    def _keep(self, job: Job, done: Future[JobResult]) -> None:
        with self._changed:
            promise = self._promises.pop(job, None)
        if promise is None:
            return  # answered before the engine came round to it
        error = done.exception()
        if error is None:
            promise.set_result(done.result())
        else:
            promise.set_exception(error)

    def _run(self) -> None:
        with self._changed:
            while self._over is None and not self._stuck():
                self._end_late()
                self._sleep()
            stuck = self._over is None
        if stuck:
            self._on_stuck()

    def _stuck(self) -> bool:
        now = self._clock()
        return now >= min(self._heard + self._hung_after_s(), self._end_expected)

    def _end_late(self) -> None:
        latest = self._clock() - self._late_s
        for job in [job for job in self._promises if job.deadline <= latest]:
            self._promises.pop(job).set_exception(
                DeadlinePassed(
                    "the request's deadline passed, and the device has not answered since"
                )
            )

    def _sleep(self) -> None:
        """Until the next thing that could be overdue, or a change."""
        deadlines = [job.deadline + self._late_s for job in self._promises]
        silent = self._heard + self._hung_after_s()
        self._awaited = min(silent, self._end_expected, *deadlines)
        self._changed.wait(max(self._awaited - self._clock(), 0.0))
        if self._clock() > self._awaited + self._late_s:
            self.beat()  # all the process was stopped, and the engine with it
