"""Printable: log values that a terminal shows as they are, whatever a client put into them."""

from __future__ import annotations

from enum import Enum

from structlog.typing import EventDict, WrappedLogger

LINES = frozenset({"exception", "stack"})
"""Members that have several lines."""


def make_printable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor for lines that people read: escapes control characters, and unwraps enums."""
    return {name: _shown(value, name in LINES) for name, value in event.items()}


def _shown(value: object, lines: bool) -> object:
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, str) or value.isprintable():
        return value
    kept = "\n" if lines else ""
    return "".join(c if c.isprintable() or c in kept else _escaped(c) for c in value)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
