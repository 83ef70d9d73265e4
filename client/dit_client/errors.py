"""Errors: everything that a call can raise, in one tree.

DitError
  NoAnswer              the service cannot be reached, or the connection ended before an answer
    AnswerCut           the answer began and broke off
  InvalidAnswer         the answer is not one of this API
  DeadlineExceeded      the caller's time is over
  ServiceError          the service answered with an error; `problem` has all of it
    Refused             4xx: the same request would be refused again
      Unauthorized      401, 403
      UnknownClass      404 with `nearest`, the most similar names
      InvalidRequest    422 with `errors`, the wrong fields and what they may be
    Overloaded          a later try may succeed; `retry_after_s`
      QueueFull         429
        RateLimited     a limit of the API key; `limit` is its name
      Unavailable       503 (and 502, of a proxy)
    DeadlinePassed      504; also a DeadlineExceeded
      DeadlineImpossible  even an idle service would have been too slow
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FieldError:
    """A wrong field of a request, and in words what it may be."""

    field: str
    message: str
    value: object = None
    allowed: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer of `application/problem+json` (RFC 9457); ``members`` has what is not named here."""

    status: int
    title: str
    detail: str = ""
    type: str = "about:blank"
    request_id: str | None = None
    retry_after_s: float | None = None
    members: Mapping[str, object] = field(default_factory=dict)


class DitError(Exception):
    """The root of the tree."""


class NoAnswer(DitError):
    """The service cannot be reached, or the connection ended before an answer."""


class AnswerCut(NoAnswer):
    """The answer began and broke off."""


class InvalidAnswer(DitError):
    """The answer is not one of this API: another program listens at this address."""


class DeadlineExceeded(DitError):
    """The caller's time is over."""


class ServiceError(DitError):
    """The service answered with an error."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or f"{problem.status} {problem.title}")
        self.problem = problem

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def request_id(self) -> str | None:
        """Under this id the service's log has the details."""
        return self.problem.request_id


class Refused(ServiceError):
    """4xx: the same request would be refused again."""


class Unauthorized(Refused):
    """401 or 403: the API key is missing or wrong, or the request comes from a forbidden place."""


class UnknownClass(Refused):
    """404: no class has this name. ``nearest`` are the most similar names."""

    def __init__(self, problem: Problem, nearest: tuple[str, ...]) -> None:
        super().__init__(problem)
        self.nearest = nearest


class InvalidRequest(Refused):
    """422: ``errors`` are the wrong fields."""

    def __init__(self, problem: Problem, errors: tuple[FieldError, ...]) -> None:
        super().__init__(problem)
        self.errors = errors


class Overloaded(ServiceError):
    """A later try may succeed, after ``retry_after_s`` where the service says when."""

    @property
    def retry_after_s(self) -> float | None:
        return self.problem.retry_after_s


class QueueFull(Overloaded):
    """429: the queue is full."""


class RateLimited(QueueFull):
    """429: the API key is at one of its limits, however idle the service is."""

    @property
    def limit(self) -> str | None:
        """The limit's name, such as requests_per_minute."""
        name = self.problem.members.get("limit")
        return name if isinstance(name, str) else None


class Unavailable(Overloaded):
    """503 or 502: the service is starting or stopping, or has lost its device."""


class DeadlinePassed(ServiceError, DeadlineExceeded):
    """504: the service could not finish in ``timeout_s``."""


class DeadlineImpossible(DeadlinePassed):
    """Even an idle service would have been too slow: ask for fewer steps, or give more time."""
