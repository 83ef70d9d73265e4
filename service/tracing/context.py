"""Trace context: the W3C header in which a caller names the trace that a request belongs to.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The trace, and the caller's span in it, as lower-case hexadecimal numbers."""

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(values: list[str]) -> TraceContext | None:
    """The context that a request's traceparent headers name; None unless it is one that is valid.

    Of a version after 00, what is known of it counts.
    """
    if len(values) != 1:
        return None
    found = _TRACEPARENT.fullmatch(values[0].strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))
