"""Watchdog: makes sure that every admitted job is answered, even if the engine's thread hangs."""

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

    After ``stale_s`` the service is not ready; after ``hung_s`` the watchdog gives up on the
    engine. If ticks are long, both are a number of the longest ticks instead. A request waits ``late_s`` past
    its deadline for the engine to end it, and a stop waits as long for the engine to end.
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


class Watchdog:
    """A thread next to the engine's that sleeps until something could be overdue.

    Callers wait on a separate future. It resolves with the job, or with 503 or 504 from the
    watchdog when the engine is stuck. So an engine that wakes up late can still end a job whose
    caller was answered long ago.

    Args:
        hung_after_s: how long the engine may be silent; evaluated anew each time.
        late_s: how long past its deadline a job may end.
        on_stuck: called once, in the watchdog's thread, when the engine has been silent for too
            long or has not ended by the time given to `expect_end`.
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
        self._last_beat = clock()
        self._end_expected = math.inf
        self._answers: dict[Job, Future[JobResult]] = {}
        self._ended: ServiceError | None = None
        self._changed = threading.Condition()
        self._wakes_at = 0.0
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self.beat()
        self._thread.start()

    def beat(self) -> None:
        """Record a sign of life."""
        self._last_beat = self._clock()

    @property
    def silence_s(self) -> float:
        """Seconds since the last sign of life."""
        return self._clock() - self._last_beat

    def guard(self, job: Job) -> Future[JobResult]:
        """The future on which the caller of an admitted job waits."""
        answer: Future[JobResult] = Future()
        answer.set_running_or_notify_cancel()  # only the watchdog resolves it
        with self._changed:
            if self._ended is not None:
                answer.set_exception(self._ended)
                return answer
            self._answers[job] = answer
            if job.deadline + self._late_s < self._wakes_at:
                self._changed.notify()
        job.future.add_done_callback(lambda done: self._pass_on(job, done))
        return answer

    def expect_end(self, when: float) -> None:
        """Count the engine as stuck if it has not ended by this time."""
        with self._changed:
            self._end_expected = when
            self._changed.notify()

    def end(self, reason: ServiceError) -> None:
        """Answer all open and all later jobs with ``reason``, and stop watching."""
        with self._changed:
            self._ended = self._ended or reason
            unanswered, self._answers = self._answers, {}
            self._changed.notify()
        for answer in unanswered.values():
            answer.set_exception(reason)

    def _pass_on(self, job: Job, done: Future[JobResult]) -> None:
        with self._changed:
            answer = self._answers.pop(job, None)
        if answer is None:
            return  # the watchdog answered before the engine did
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        else:
            answer.set_exception(error)

    def _run(self) -> None:
        with self._changed:
            while self._ended is None and not self._stuck():
                self._end_late_jobs()
                self._sleep()
            stuck = self._ended is None
        if stuck:
            self._on_stuck()

    def _stuck(self) -> bool:
        now = self._clock()
        return now >= min(self._last_beat + self._hung_after_s(), self._end_expected)

    def _end_late_jobs(self) -> None:
        latest = self._clock() - self._late_s
        for job in [job for job in self._answers if job.deadline <= latest]:
            self._answers.pop(job).set_exception(
                DeadlinePassed("the request's deadline passed and the device has not responded")
            )

    def _sleep(self) -> None:
        """Until the next thing that could be overdue, or a change."""
        deadlines = [job.deadline + self._late_s for job in self._answers]
        hung = self._last_beat + self._hung_after_s()
        self._wakes_at = min(hung, self._end_expected, *deadlines)
        self._changed.wait(max(self._wakes_at - self._clock(), 0.0))
        if self._clock() > self._wakes_at + self._late_s:
            self.beat()  # the whole process was paused, not the engine alone
