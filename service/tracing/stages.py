"""Stages: what a request spends its time in, noted where it happens if the request is traced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field

Attribute = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Stage:
    """What a request spent time in, from when to when on the clock of `time.monotonic`."""

    name: str
    began: float
    ended: float


@dataclass(slots=True, eq=False)
class RequestTrace:
    """What is noted about one request while it runs."""

    stages: list[Stage] = field(default_factory=list)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    engine_stages: Callable[[], list[Stage]] = list
    """Asked for once the request has ended."""


_current: ContextVar[RequestTrace | None] = ContextVar("request_trace", default=None)


def current_trace() -> RequestTrace | None:
    """Of the request that this task works on; None where nothing is traced."""
    return _current.get()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Note the block as a stage of the request that this task works on, if that is traced."""
    trace = _current.get()
    if trace is None:
        yield
        return
    began = time.monotonic()
    try:
        yield
    finally:
        trace.stages.append(Stage(name, began, time.monotonic()))


def enter(trace: RequestTrace) -> Token[RequestTrace | None]:
    """Note what this task does, and the tasks that it starts, in this trace."""
    return _current.set(trace)


def leave(token: Token[RequestTrace | None]) -> None:
    """Undo `enter`."""
    _current.reset(token)
