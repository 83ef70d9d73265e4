"""Retries: when a request is sent again, and when the caller's time is over. No network here.

`attempts` is a generator: it yields what is to be done next and is sent what came of it. The two clients
differ only in how they do it.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import httpx

from dit_client.calls import Answer
from dit_client.errors import AnswerCut, DeadlineExceeded, DitError, NoAnswer, Overloaded
from dit_client.wire.problems import error_of

TRIED_AGAIN = frozenset({429, 502, 503})
"""Any other answer would come again, or is final."""

SPREAD = 0.25
"""A wait is up to this fraction longer, at random, so that many clients do not return at once."""


@dataclass(frozen=True, slots=True)
class Retry:
    """What `RetryPolicy.on_retry` is told: the request failed with ``error``, waits, and is sent again."""

    error: DitError
    wait_s: float
    attempt: int


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is sent again, as far as the caller's time allows.

    After 429, 502 and 503 it waits as long as the answer's Retry-After says, never less; without one,
    and where there was no answer, ``first_s``, then twice as long each time up to ``longest_s``.
    Nothing is sent again after another answer, or after a part of one.

    Attributes:
        attempts: of one request, at most.
        connections: attempts that may fail without an answer, at most.
        on_retry: called before each wait.
    """

    attempts: int = 30
    connections: int = 5
    first_s: float = 0.5
    longest_s: float = 20.0
    on_retry: Callable[[Retry], None] | None = None


NO_RETRIES = RetryPolicy(attempts=1)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment, on the monotonic clock, at which the caller stops waiting."""

    at: float
    timeout_s: float

    @classmethod
    def after(cls, timeout_s: float) -> Deadline:
        return cls(time.monotonic() + timeout_s, timeout_s)

    @property
    def left_s(self) -> float:
        return self.at - time.monotonic()

    def exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"no answer within {self.timeout_s:g} s")

    def check(self, grace_s: float = 0.0) -> None:
        """
        Raises:
            DeadlineExceeded: the time is over, and these seconds too.
        """
        if self.left_s <= -grace_s:
            raise self.exceeded()


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send the request, with this much time left."""

    left_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


Step = Attempt | Pause
Outcome = Answer | httpx.Response | DitError | None
"""Of a pause, None. Of an attempt, the open response of a success, another answer, or why there is none."""

Final = Answer | httpx.Response
Attempts = Generator[Step, Outcome, Final]


def attempts(deadline: Deadline, policy: RetryPolicy) -> Attempts:
    """Try until there is an answer after which nothing is sent again.

    Raises:
        DitError: the last attempt had no answer, or the caller's time is over.
    """
    without_answer = 0
    for attempt in itertools.count(1):
        deadline.check()
        outcome = yield Attempt(deadline.left_s)
        assert outcome is not None, "this is a bug: an attempt has an outcome"
        error = _why_again(outcome)
        without_answer += not isinstance(error, Overloaded)
        wait_s = 0.0 if error is None else _wait_s(error, attempt, policy)
        exhausted = attempt >= policy.attempts or without_answer >= policy.connections
        if error is None or exhausted or wait_s >= deadline.left_s:
            return _final(outcome)
        if policy.on_retry is not None:
            policy.on_retry(Retry(error, wait_s, attempt))
        yield Pause(wait_s)
    raise AssertionError("this is a bug: counting does not end")


def _final(outcome: Final | DitError) -> Final:
    if isinstance(outcome, DitError):
        raise outcome
    return outcome


def _why_again(outcome: object) -> DitError | None:
    """The error after which the request is sent again; None if the outcome is final."""
    if isinstance(outcome, NoAnswer) and not isinstance(outcome, AnswerCut):
        return outcome
    if isinstance(outcome, Answer) and outcome.status in TRIED_AGAIN:
        return error_of(outcome.status, outcome.headers, outcome.content)
    return None


def _wait_s(error: DitError, attempt: int, policy: RetryPolicy) -> float:
    told = error.retry_after_s if isinstance(error, Overloaded) else None
    backoff = min(policy.longest_s, policy.first_s * 2.0 ** (attempt - 1))
    least = backoff if told is None else max(told, policy.first_s)
    return least * (1 + SPREAD * random.random())
