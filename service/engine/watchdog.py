"""Watchdog: makes sure that every admitted job is answered, even if the engine's thread hangs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from service.engine.heartbeat import Heartbeat
from service.errors import DeadlinePassed, ServiceError
from service.scheduling.jobs import Job, JobResult

STALE_STRETCHES = 3
HUNG_STRETCHES = 20

NAP_S = 1.0
"""The longest that the watchdog sleeps: what it oversleeps does not count as silence."""

LEAST_NAP_S = 1e-3


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, the engine may show no sign of life.

    After ``stale_s`` the service is not ready; after ``hung_s`` the watchdog gives up on the engine.
    Both are a multiple of the longest stretch between two signs of life instead, as measured, where
    that is longer. A request waits ``late_s`` past its deadline for the engine to end it, and a
    stop waits as long for the engine to end.
    """

    stale_s: float = 5.0
    hung_s: float = 60.0
    late_s: float = 5.0

    def stale_after(self, longest_s: float) -> float:
        return max(self.stale_s, STALE_STRETCHES * longest_s)

    def hung_after(self, longest_s: float) -> float:
        return max(self.hung_s, HUNG_STRETCHES * longest_s)


PATIENCE = Patience()


class EngineHung(RuntimeError):
    """The engine's thread has shown no sign of life for too long."""


class Watchdog:
    """A thread next to the engine's that sleeps until something could be overdue.

    Callers wait on a separate future. It resolves with the job, or with 503 or 504 from the
    watchdog when the engine is stuck. So an engine that wakes up late can still end a job whose
    caller was answered long ago.

    Args:
        patience: how long the engine may be silent, and how long past its deadline a job may end.
        expected_stretch_s: the longest that the engine is expected to be silent; evaluated each time.
        on_stuck: called once, in the watchdog's thread, when the engine has been silent for too
            long or has not ended by the time given to `expect_end`.
    """

    def __init__(
        self,
        patience: Patience,
        expected_stretch_s: Callable[[], float],
        *,
        on_stuck: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = patience
        self._late_s = patience.late_s
        self._expected_stretch_s = expected_stretch_s
        self._on_stuck = on_stuck
        self._clock = clock
        self._heart = Heartbeat(clock)
        self._end_expected = math.inf
        self._answers: dict[Job, Future[JobResult]] = {}
        self._ended: ServiceError | None = None
        self._changed = threading.Condition()
        self._wakes_at = 0.0
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._heart.start()
        self._thread.start()

    def beat(self) -> None:
        """Record a sign of life."""
        self._heart.beat()

    def rested(self) -> None:
        """A sign of life after a wait, which was no work."""
        self._heart.start()

    @property
    def silence_s(self) -> float:
        """Seconds since the last sign of life, without those in which the whole process stood still."""
        return self._heart.silence_s

    @property
    def stale(self) -> bool:
        """Whether it is longer than usual."""
        return self.silence_s >= self._patience.stale_after(self._longest_stretch_s)

    @property
    def _longest_stretch_s(self) -> float:
        return max(self._expected_stretch_s(), self._heart.longest_s)

    @property
    def _hung_after_s(self) -> float:
        return self._patience.hung_after(self._longest_stretch_s)

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
        return self.silence_s >= self._hung_after_s or self._clock() >= self._end_expected

    def _end_late_jobs(self) -> None:
        latest = self._clock() - self._late_s
        for job in [job for job in self._answers if job.deadline <= latest]:
            self._answers.pop(job).set_exception(
                DeadlinePassed("the request's deadline passed and the device has not responded")
            )

    def _sleep(self) -> None:
        """Until the next thing that could be overdue, or a change, but not for long."""
        now = self._clock()
        silent_until = now + self._hung_after_s - self.silence_s
        deadlines = [job.deadline + self._late_s for job in self._answers]
        self._wakes_at = min(now + NAP_S, silent_until, self._end_expected, *deadlines)
        nap_s = max(self._wakes_at - now, LEAST_NAP_S)
        self._heart.nap(nap_s)
        self._changed.wait(nap_s)
