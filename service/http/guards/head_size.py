"""Head size: reading a request's head must stay cheap, whatever it holds."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import HeadersTooLarge, TargetTooLong

LONGEST_TARGET = 8_000
LARGEST_HEADERS = 16_384
"""In bytes, as other servers have it. A connection itself stops at 32 KiB, which it may have to keep."""


def refuse_large_heads(scope: Scope, headers: Headers) -> None:
    """Refuse a path and query, or headers, that are larger than any client needs."""
    target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    if target > LONGEST_TARGET:
        raise TargetTooLong(
            f"the path and query have {target} bytes; at most {LONGEST_TARGET} are read"
        )
    size = sum(len(name) + len(value) for name, value in headers.raw)
    if size > LARGEST_HEADERS:
        raise HeadersTooLarge(f"the headers have {size} bytes; at most {LARGEST_HEADERS} are read")
