"""Problems: every error as application/problem+json (RFC 9457), below /v1 as OpenAI's clients read it."""

from __future__ import annotations

import json
import math
import reprlib
from dataclasses import fields
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from service.errors import (
    DeadlinePassed,
    FieldError,
    InvalidRequest,
    RateLimited,
    ServiceError,
    UnknownClass,
)
from service.http.content_type import JSON
from service.http.schemas import OpenAIProblem, Problem
from service.images.fields import reworded

MEDIA_TYPE = "application/problem+json"
TYPES = "urn:dit-service:"
LONGEST_TEXT = 200
LONGEST_DETAIL = 2000
MOST_FIELDS = 20


def add_problem_handlers(app: FastAPI) -> None:
    """Answer the service's errors and the framework's own in one form."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def problem(error: ServiceError, request_id: str, path: str = "") -> Response:
    """The answer to a request for ``path`` that ended in ``error``."""
    as_openai = is_openai(path)
    body = openai_body(error) if as_openai else problem_body(error, request_id)
    response = _response(body, error.status)
    response.headers.update(error.headers)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if as_openai:
        response.headers.update(_advice(error))
    return response


def is_openai(path: str) -> bool:
    """Whether a path is one of those that OpenAI's clients know."""
    return path == "/v1" or path.startswith("/v1/")


def problem_body(error: ServiceError, request_id: str) -> dict[str, object]:
    """The members of the answer; ``type`` identifies the kind of error to programs."""
    body: dict[str, object] = {
        "type": TYPES + error.title.lower().replace(" ", "-"),
        "title": error.title,
        "status": error.status,
        "detail": _short(error.detail, LONGEST_DETAIL),
        "request_id": request_id,
    }
    return body | _hints(error)


def openai_body(error: ServiceError) -> dict[str, object]:
    """The same for OpenAI's clients; ``code`` identifies the kind of error."""
    detail = _short(error.detail, LONGEST_DETAIL)
    return _openai(detail, error.status, error.title, error.param, **_hints(error))


def problem_responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """A route's errors, as OpenAPI describes them."""
    return _responses(statuses, {MEDIA_TYPE: {"schema": Problem.model_json_schema()}})


def openai_responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """The same for a route below /v1."""
    return _responses(statuses, {JSON: {"schema": OpenAIProblem.model_json_schema()}})


def note_error(scope: Scope, error: ServiceError) -> None:
    """Tell `Observation` what a request ended in, whatever status its answer began with."""
    scope["state"] |= {
        "status": error.status,
        "outcome": error.outcome,
        "rejection": error.rejection,
    }


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError), "this is a bug: registered for ServiceError alone"
    note_error(request.scope, error)
    return problem(error, request.state.request_id, request.scope["path"])


async def _on_validation_error(request: Request, error: Exception) -> Response:
    """A query parameter is wrong."""
    assert isinstance(error, RequestValidationError), "this is a bug: registered for it alone"
    wrong = (FieldError(str(e["loc"][-1]), reworded(e["msg"]), e["input"]) for e in error.errors())
    return problem(InvalidRequest(*wrong), request.state.request_id, request.scope["path"])


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "this is a bug: registered for HTTPException alone"
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if request.scope["path"] == "*":  # OPTIONS of the service as a whole
        headers["Allow"] = "GET, POST"
    if "Allow" in headers:
        headers["Allow"] = _methods(headers["Allow"])
    if request.method == "OPTIONS" and "Allow" in headers:
        return Response(status_code=int(HTTPStatus.NO_CONTENT), headers=headers)
    detail = f"{request.method} {_short(request.scope['path'])}: {status.description}"
    body: dict[str, object] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status,
        "detail": detail,
        "request_id": request.state.request_id,
    }
    if is_openai(request.scope["path"]):
        body = _openai(detail, status, status.phrase)
    response = _response(body, status)
    response.headers.update(headers)
    return response


def _hints(error: ServiceError) -> dict[str, object]:
    """What helps a program to mend the request."""
    if isinstance(error, InvalidRequest):
        return {"errors": [_field(each) for each in error.errors[:MOST_FIELDS]]}
    if isinstance(error, RateLimited):
        return {"key": error.client, "limit": error.limit}
    return {"nearest": error.nearest} if isinstance(error, UnknownClass) else {}


def _openai(
    message: str, status: int, title: str, param: str | None = None, **hints: object
) -> dict[str, object]:
    failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind = {429: "rate_limit_error"}.get(status, "invalid_request_error")
    code = title.lower().replace(" ", "_").replace("-", "_")
    common = {"message": message, "type": "server_error" if failed else kind}
    return {"error": {**common, "param": param, "code": code, **hints}}


def _advice(error: ServiceError) -> dict[str, str]:
    """Headers that tell OpenAI's clients when to try again. Of themselves they repeat every 5xx."""
    if error.retry_after_s is not None:
        return {"Retry-After-Ms": str(math.ceil(error.retry_after_s * 1e3))}
    return {"X-Should-Retry": "false"} if isinstance(error, DeadlinePassed) else {}


def _responses(
    statuses: tuple[int, ...], content: dict[str, dict[str, object]]
) -> dict[int | str, dict[str, object]]:
    return {each: {"description": HTTPStatus(each).phrase, "content": content} for each in statuses}


def _methods(of_route: str) -> str:
    """The methods of a path: the service adds HEAD and OPTIONS to those of its route."""
    methods = {method.strip() for method in of_route.split(",")} | {"OPTIONS"}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def _field(error: FieldError) -> dict[str, object]:
    # Not by asdict, which copies the value: it may be nested deeply, or long.
    return {each.name: _json_safe(getattr(error, each.name)) for each in fields(error)}


def _json_safe(value: object) -> object:
    """A value that every JSON reader accepts: NaN and infinities by name, long values cut short."""
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bool | int | float | None) and abs(value or 0) < 2**64:
        return value
    shortener = reprlib.Repr()  # bounds depth and length
    shortener.maxstring = shortener.maxlong = LONGEST_TEXT
    return _short(shortener.repr(value))


def _short(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text cut to ``longest`` characters, without lone surrogates."""
    cut = text if len(text) <= longest else text[:longest] + "…"
    return cut.encode("utf-8", "backslashreplace").decode("utf-8")


def _response(body: dict[str, object], status: int) -> Response:
    media_type = JSON if "error" in body else MEDIA_TYPE
    return Response(json.dumps(body), status_code=int(status), media_type=media_type)
