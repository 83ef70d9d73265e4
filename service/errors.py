"""Errors: every answer that a request can get instead of pictures, in one tree.

ServiceError              500
  MalformedRequest        400  is not HTTP
  Unauthorized            401  without an API key, or with one that is not known
  CrossSiteRequest        403  comes from a page of another site
  UnknownClass            404  with the nearest names
  UnknownModel            404
  NotAcceptable           406
  RequestTimeout          408
  BodyTooLarge            413
  TargetTooLong           414
  UnsupportedMediaType    415  with the header that says what is supported
  MisdirectedRequest      421  is for another host
  InvalidRequest          422  names every wrong field
  QueueFull               429  with Retry-After
  RateLimited             429  a limit of the client's API key; with Retry-After
  HeadersTooLarge         431
  ClientGone              499  in the log and the metrics only
  ImageFailed             500
  SigningFailed           500
  Unavailable             503  with Retry-After
  DeadlinePassed          504
    DeadlineImpossible    504  even an idle device would have been too slow
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

LONGEST_NAME = 200
"""Characters of an unknown class that its message repeats."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """A wrong field of a request, and what it may be."""

    field: str
    message: str
    value: object = None
    allowed: str | None = None


class ServiceError(Exception):
    """An answer other than pictures. Each class has its `status` and `title`.

    Metrics count it as ``outcome``, or by its status.
    """

    status = 500
    title = "Internal error"
    outcome: str | None = None
    headers: Mapping[str, str] = MappingProxyType({})
    """Headers of the answer that the status calls for."""
    param: str | None = None
    """The field that is at fault."""
    rejection: str | None = None
    """Why API keys or their limits refuse the request, as metrics count it."""

    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class MalformedRequest(ServiceError):
    status = 400
    title = "Malformed request"


class Unauthorized(ServiceError):
    """``rejection`` is "missing" or "unknown": what is wrong with the key."""

    status = 401
    title = "Invalid API key"
    outcome = "unauthorized"

    def __init__(self, detail: str, *, rejection: str, challenge: str = "Bearer") -> None:
        super().__init__(detail)
        self.rejection = rejection
        self.headers = {"WWW-Authenticate": challenge}


class CrossSiteRequest(ServiceError):
    status = 403
    title = "Cross-site request"


class InvalidRequest(ServiceError):
    status = 422
    title = "Invalid request"

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = errors
        self.param = errors[0].field if errors else None


class UnknownClass(ServiceError):
    status = 404
    title = "Unknown class"

    def __init__(self, name: str, nearest: list[str], param: str = "class_label") -> None:
        hint = f"; the nearest names are {', '.join(nearest)}" if nearest else "; see /classes"
        short = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
        super().__init__(f"no class is called {short!r}{hint}")
        self.name = name
        self.nearest = nearest
        self.param = param


class UnknownModel(ServiceError):
    status = 404
    title = "Model not found"
    param = "model"


class NotAcceptable(ServiceError):
    status = 406
    title = "Not acceptable"
    headers = MappingProxyType({"Vary": "Accept"})


class RequestTimeout(ServiceError):
    status = 408
    title = "Request timeout"


class BodyTooLarge(ServiceError):
    status = 413
    title = "Body too large"


class TargetTooLong(ServiceError):
    status = 414
    title = "Target too long"


class UnsupportedMediaType(ServiceError):
    status = 415
    title = "Unsupported media type"

    def __init__(self, detail: str, headers: Mapping[str, str]) -> None:
        super().__init__(detail)
        self.headers = headers


class MisdirectedRequest(ServiceError):
    status = 421
    title = "Misdirected request"


class QueueFull(ServiceError):
    status = 429
    title = "Queue full"


class RateLimited(ServiceError):
    """``limit`` is the limit's name, ``client`` that of the key that has it."""

    status = 429
    title = "Rate limit exceeded"
    outcome = "limited"

    def __init__(self, detail: str, *, limit: str, client: str, retry_after_s: float) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.limit = self.rejection = limit
        self.client = client


class HeadersTooLarge(ServiceError):
    status = 431
    title = "Headers too large"


class ClientGone(ServiceError):
    status = 499
    title = "Client closed the request"
    outcome = "cancelled"


class ImageFailed(ServiceError):
    status = 500
    title = "Image failed"


class SigningFailed(ServiceError):
    status = 500
    title = "Signing failed"


class Unavailable(ServiceError):
    status = 503
    title = "Unavailable"


class DeadlinePassed(ServiceError):
    status = 504
    title = "Deadline passed"


class DeadlineImpossible(DeadlinePassed):
    title = "Deadline impossible"
    outcome = "impossible"
