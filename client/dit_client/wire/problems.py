"""Problems: an error answer of the service as one of our errors."""

from __future__ import annotations

import contextlib
import email.utils
import re
import time
from collections.abc import Mapping
from http import HTTPStatus

from dit_client.errors import (
    DeadlineImpossible,
    DeadlinePassed,
    FieldError,
    InvalidAnswer,
    InvalidRequest,
    Problem,
    QueueFull,
    RateLimited,
    Refused,
    ServiceError,
    Unauthorized,
    Unavailable,
    UnknownClass,
)
from dit_client.wire.json_fields import as_object, member, optional, read_json, texts

PROBLEM_TYPES = ("application/problem+json", "application/json")
DEADLINE_IMPOSSIBLE = "urn:dit-service:deadline-impossible"
RATE_LIMITED = "urn:dit-service:rate-limit-exceeded"
STATUSES: Mapping[int, type[ServiceError]] = {
    401: Unauthorized,
    403: Unauthorized,
    429: QueueFull,
    502: Unavailable,
    503: Unavailable,
    504: DeadlinePassed,
}
LONGEST_DETAIL = 500  # of an answer that is not a problem


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ServiceError:
    """The error that an answer other than 2xx is. What a proxy sends has its words as detail."""
    problem = None
    if headers.get("content-type", "").partition(";")[0].strip().lower() in PROBLEM_TYPES:
        with contextlib.suppress(InvalidAnswer):
            problem = as_object(read_json(content))
    if problem is None:
        return _error(_foreign(status, headers, content), {})
    return error_from(problem, status, headers)


def error_from(
    members: Mapping[str, object],
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> ServiceError:
    """The error that the members of a problem describe: of an answer, or of a stream's event.

    ``status`` is the answer's; an event has only its own member.
    """
    headers = headers or {}
    status = _status(members) if status is None else status
    problem = Problem(
        status=status,
        title=_text(members, "title") or phrase(status),
        detail=_text(members, "detail"),
        type=_text(members, "type") or "about:blank",
        request_id=_text(members, "request_id") or headers.get("x-request-id"),
        retry_after_s=retry_after(headers.get("retry-after")),
        members=members,
    )
    return _error(problem, members)


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds to wait, of a Retry-After header: a number of seconds, or a date. None: no such header,
    or not a valid one."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return float(value)
    with contextlib.suppress(ValueError, OverflowError, OSError):
        date = email.utils.parsedate_to_datetime(value)
        return max(0.0, date.timestamp() - (time.time() if now is None else now))
    return None


def phrase(status: int) -> str:
    """A status in words."""
    with contextlib.suppress(ValueError):
        return HTTPStatus(status).phrase
    return "unknown status"


def _error(problem: Problem, members: Mapping[str, object]) -> ServiceError:
    if problem.status == 422 and (errors := _field_errors(members)):
        return InvalidRequest(problem, errors)
    if problem.status == 404 and "nearest" in members:
        with contextlib.suppress(InvalidAnswer):
            return UnknownClass(problem, texts(members, "nearest"))
    if problem.type == DEADLINE_IMPOSSIBLE:
        return DeadlineImpossible(problem)
    if problem.type == RATE_LIMITED:
        return RateLimited(problem)
    kind = STATUSES.get(problem.status)
    if kind is None:
        kind = Refused if 400 <= problem.status < 500 else ServiceError
    return kind(problem)


def _field_errors(members: Mapping[str, object]) -> tuple[FieldError, ...]:
    with contextlib.suppress(InvalidAnswer):
        each = map(as_object, optional(members, "errors", list) or [])
        return tuple(
            FieldError(
                field=member(one, "field", str),
                message=member(one, "message", str),
                value=one.get("value"),
                allowed=optional(one, "allowed", str),
            )
            for one in each
        )
    return ()


def _foreign(status: int, headers: Mapping[str, str], content: bytes) -> Problem:
    """An answer that is not a problem: of a proxy, or of another program."""
    text = content[: 4 * LONGEST_DETAIL].decode("utf-8", "replace")
    words = " ".join(re.sub(r"<[^>]*>", " ", text).split())[:LONGEST_DETAIL]
    return Problem(
        status=status,
        title=phrase(status),
        detail=f"{status} {phrase(status)}" + (f": {words}" if words else ""),
        request_id=headers.get("x-request-id"),
        retry_after_s=retry_after(headers.get("retry-after")),
    )


def _status(members: Mapping[str, object]) -> int:
    status = members.get("status")
    return status if isinstance(status, int) else 500


def _text(members: Mapping[str, object], name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""
