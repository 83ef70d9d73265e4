"""Calls: each of the API's operations as a request and a way to read its answer. No network here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from dit_client.options import Options, body_of
from dit_client.results import (
    ClassEntry,
    Generation,
    Health,
    Model,
    Verification,
    classes_from,
    generation_from,
    models_from,
    verification_from,
)
from dit_client.wire.json_fields import read_json
from dit_client.wire.problems import error_of

T_co = TypeVar("T_co", covariant=True)

JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """A request, and how its answer is read.

    ``sends_timeout``: the body has a field ``timeout_s``, for the time that the caller has left.
    """

    method: str
    path: str
    read: Callable[[Answer], T_co]
    accept: str = JSON
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    content: bytes | None = None
    sends_timeout: bool = False


def generate(class_label: int | str, options: Options) -> Call[Generation]:
    body = body_of(class_label, options)
    return Call("POST", "/generate", _read_generation, body=body, sends_timeout=True)


def stream(class_label: int | str, options: Options, preview_every: int) -> Call[None]:
    body = body_of(class_label, options)
    if preview_every:
        body["preview_every"] = preview_every
    return Call("POST", "/generate", lambda _: None, accept=EVENTS, body=body, sends_timeout=True)


def verify(file: bytes | str | os.PathLike[str]) -> Call[Verification]:
    content = file if isinstance(file, bytes) else Path(file).read_bytes()
    return Call("POST", "/verify", _read_verification, content=content)


def classes(search: str) -> Call[tuple[ClassEntry, ...]]:
    return Call("GET", "/classes", _read_classes, query={"q": search} if search else {})


def models() -> Call[tuple[Model, ...]]:
    return Call("GET", "/models", _read_models)


def health() -> Call[Health]:
    return Call("GET", "/readyz", _read_health)


def _read_generation(answer: Answer) -> Generation:
    headers = answer.headers
    return generation_from(
        _json(answer), etag=headers.get("etag"), request_id=headers.get("x-request-id")
    )


def _read_verification(answer: Answer) -> Verification:
    return verification_from(_json(answer))


def _read_classes(answer: Answer) -> tuple[ClassEntry, ...]:
    return classes_from(_json(answer))


def _read_models(answer: Answer) -> tuple[Model, ...]:
    return models_from(_json(answer))


def _read_health(answer: Answer) -> Health:
    if answer.ok:
        return Health(True, "ready")
    error = error_of(answer.status, answer.headers, answer.content)
    if answer.status == 503:
        return Health(False, str(error))
    raise error


def _json(answer: Answer) -> object:
    """
    Raises:
        ServiceError: the answer is an error.
        InvalidAnswer: it is not JSON.
    """
    if not answer.ok:
        raise error_of(answer.status, answer.headers, answer.content)
    return read_json(answer.content)
