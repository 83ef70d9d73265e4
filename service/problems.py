"""Problems: every error as application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from http import HTTPStatus

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.errors import FieldError, InvalidRequest, ServiceError, UnknownClass

MEDIA_TYPE = "application/problem+json"
LONGEST_VALUE = 200


def add_problem_handlers(app: FastAPI) -> None:
    """Answer the service's errors and the framework's own in one form."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def problem(error: ServiceError, request_id: str) -> Response:
    """The answer to a request that ended in ``error``."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "request_id": request_id,
    }
    if isinstance(error, InvalidRequest):
        body["errors"] = [_field(each) for each in error.errors]
    if isinstance(error, UnknownClass):
        body["nearest"] = error.nearest
    response = _response(body, error.status)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return response


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError), "this is a bug: registered for ServiceError alone"
    return problem(error, request.state.request_id)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "this is a bug: registered for HTTPException alone"
    body = {
        "type": "about:blank",
        "title": HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
        "detail": f"{request.method} {request.url.path}: {error.detail}",
        "request_id": request.state.request_id,
    }
    response = _response(body, error.status_code)
    response.headers.update(error.headers or {})
    return response


def _field(error: FieldError) -> dict[str, object]:
    return asdict(error) | {"value": _speakable(error.value)}


def _speakable(value: object) -> object:
    """The value as JSON can hold it: NaN and infinities by name, anything long cut short."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bool | int | float | None) and abs(value or 0) < 2**64:
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"


def _response(body: dict[str, object], status: int) -> Response:
    return Response(json.dumps(body), status_code=status, media_type=MEDIA_TYPE)
