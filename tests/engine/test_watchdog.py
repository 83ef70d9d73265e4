"""Watchdog: every job is answered, and a silent engine is noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import pytest

from service.engine.watchdog import NAP_S, Patience, Watchdog
from service.errors import DeadlinePassed, ImageFailed, Unavailable
from service.scheduling.jobs import JobResult, Timings
from tests.support.jobs import due_in, job
from tests.support.services import PATIENCE_S, wait_until

RESULT = JobResult([np.zeros((1, 1, 3), dtype=np.uint8)], Timings(0.0, 0.0, 0.0))


@contextmanager
def watching(
    *,
    hung_s: float = PATIENCE_S,
    late_s: float = 0.05,
    expected_s: float = 0.0,
    on_stuck: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Watchdog]:
    patience = Patience(hung_s=hung_s, late_s=late_s)
    watchdog = Watchdog(patience, lambda: expected_s, on_stuck=on_stuck, clock=clock)
    watchdog.start()
    try:
        yield watchdog
    finally:
        watchdog.end(Unavailable("the test is over"))


def error_of(answer: Future[JobResult]) -> BaseException | None:
    return answer.exception(PATIENCE_S)


def test_an_answer_resolves_as_its_job_does() -> None:
    with watching() as watchdog:
        good, bad, early = due_in(60), due_in(60), due_in(60)
        early.future.set_result(RESULT)
        answers = [watchdog.guard(each) for each in (good, bad, early)]
        good.future.set_result(RESULT)
        bad.fail(ImageFailed("boom"))
        assert answers[0].result(PATIENCE_S) is answers[2].result(PATIENCE_S) is RESULT
        assert isinstance(error_of(answers[1]), ImageFailed)


def test_a_job_that_the_engine_does_not_end_is_answered_after_its_deadline() -> None:
    with watching() as watchdog:
        patient, hasty = due_in(60), due_in(0.1)
        patient_answer, answer = watchdog.guard(patient), watchdog.guard(hasty)
        assert isinstance(error_of(answer), DeadlinePassed)
        assert time.monotonic() >= hasty.deadline + 0.05
        hasty.future.set_result(RESULT)  # the engine wakes up late
        assert isinstance(error_of(answer), DeadlinePassed)
        assert not patient_answer.done()


def test_jobs_that_fall_due_in_any_order_are_all_answered() -> None:
    with watching() as watchdog:
        answers = [watchdog.guard(due_in(0.2 - i / 100)) for i in range(20)]
        assert all(isinstance(error_of(answer), DeadlinePassed) for answer in answers)


def test_a_job_is_not_answered_early_because_another_is_due() -> None:
    with watching(late_s=0.4) as watchdog:
        due, later = due_in(0.1), due_in(0.3)
        answers = [watchdog.guard(due), watchdog.guard(later)]
        assert isinstance(error_of(answers[1]), DeadlinePassed)
        assert time.monotonic() >= later.deadline + 0.4
        assert isinstance(error_of(answers[0]), DeadlinePassed)


def test_ending_the_watchdog_answers_open_and_later_jobs() -> None:
    with watching() as watchdog:
        early, late = due_in(60), due_in(60)
        answer = watchdog.guard(early)
        watchdog.end(Unavailable("over"))
        assert isinstance(error_of(answer), Unavailable)
        assert isinstance(error_of(watchdog.guard(late)), Unavailable)
        early.fail(ImageFailed("boom"))
        assert isinstance(error_of(answer), Unavailable)


def test_the_first_reason_for_the_end_is_kept() -> None:
    with watching() as watchdog:
        watchdog.end(Unavailable("the first"))
        watchdog.end(Unavailable("the second"))
        error = error_of(watchdog.guard(due_in(60)))
        assert isinstance(error, Unavailable)
        assert error.detail == "the first"


def test_an_orderly_end_does_not_count_as_stuck() -> None:
    stuck = threading.Event()
    with watching(on_stuck=stuck.set) as watchdog:
        watchdog.end(Unavailable("over"))
        assert not stuck.wait(0.2)


def test_a_caller_cannot_cancel_its_answer() -> None:
    with watching() as watchdog:
        good = due_in(60)
        answer = watchdog.guard(good)
        assert not answer.cancel()
        good.future.set_result(RESULT)
        assert answer.result(PATIENCE_S) is RESULT


def test_patience_grows_with_the_longest_stretch() -> None:
    patience = Patience(stale_s=5.0, hung_s=60.0)
    assert (patience.stale_after(1.0), patience.hung_after(1.0)) == (5.0, 60.0)
    assert (patience.stale_after(10.0), patience.hung_after(10.0)) == (30.0, 200.0)


def test_silence_counts_as_stuck_and_a_beat_ends_it() -> None:
    stuck = threading.Event()
    now = 100.0
    with watching(hung_s=0.8, on_stuck=stuck.set, clock=lambda: now) as watchdog:

        def look() -> Future[JobResult]:
            """What is over wakes the watchdog up."""
            return watchdog.guard(job("over", [1], deadline=0.0))

        for _ in range(8):
            now += 0.2
            watchdog.beat()
            assert isinstance(error_of(look()), DeadlinePassed)
        assert not stuck.is_set()

        def stuck_after_a_while() -> bool:
            nonlocal now
            now += 0.2
            look()
            return stuck.is_set()

        wait_until(stuck_after_a_while)
        assert watchdog.silence_s >= 0.8


@pytest.mark.parametrize("stopped_s", [59.5, 60.5, 64.9, 65.5, 10_000.0])
def test_a_stop_of_the_whole_process_is_never_a_hang(stopped_s: float) -> None:
    stuck = threading.Event()
    now = 0.0
    with watching(hung_s=60.0, late_s=5.0, on_stuck=stuck.set, clock=lambda: now) as watchdog:
        now = stopped_s
        hasty = watchdog.guard(job("hasty", [1], deadline=0.0))  # wakes the watchdog up
        assert isinstance(error_of(hasty), DeadlinePassed)
        later = watchdog.guard(
            job("later", [1], deadline=1.0)
        )  # it has looked at the silence since
        assert isinstance(error_of(later), DeadlinePassed)
        assert not stuck.is_set()
        assert watchdog.silence_s <= NAP_S


def test_an_engine_that_misses_its_expected_end_counts_as_stuck() -> None:
    stuck = threading.Event()
    with watching(on_stuck=stuck.set) as watchdog:
        watchdog.expect_end(time.monotonic() + 0.1)
        assert stuck.wait(PATIENCE_S)
